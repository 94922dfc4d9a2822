"""Pretraining of both text encoders: what a prompt says of a portrait, in the first dimensions of what they give.

A word is one of 77 states, and from random weights a denoiser learns to ignore it, as the noisy picture itself soon
shows what it stands for. So the encoders are trained first, alone, to give the attributes' vector: the second one in
its pooled embedding, the first one in every state behind the prompt's end. Afterwards they stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from models.demo import sdxl
from models.pulid_lightning.prompt import Tokenizer, tokenize
from models.pulid_lightning.text_encoder import penultimate_states
from training.networks.frozen_channels import Reserved
from training.portraits.painter import TEXT_CONSTANT, init_text_constant
from training.portraits.prompts import VECTOR, attribute_vector, sample_prompt
from training.stages.loop import Logger, Schedule, train

_BATCH: Final = 64
_TOKENS: Final = 44
"""Tokens of a prompt that are trained on; hardly any prompt is longer."""
_STATES: Final = slice(TEXT_CONSTANT + 1, TEXT_CONSTANT + 1 + len(VECTOR))
"""Channels of the first encoder's states that hold the attributes."""


class TextEncoders(nn.Module):
    """Both encoders, `l` and `g`, and their tokenizers."""

    def __init__(self, tokenizers: tuple[Tokenizer, Tokenizer]) -> None:
        """Draw random weights, with the first encoder's constant in place."""
        super().__init__()
        self.l, self.g = sdxl.text_encoder_l(), sdxl.text_encoder_g()
        self._tokenizers = tokenizers
        self.held = Reserved()
        init_text_constant(self.l, self.held)
        self.held.round_to_half()

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens of the first chunk of every prompt, [prompts, 77], of each encoder."""
        first, second = (
            torch.tensor([tokenize(prompt, tokenizer).ids[0] for prompt in prompts]) for tokenizer in self._tokenizers
        )
        return first, second

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States of both, side by side, [prompts, 77, context width], and the second one's pooled embeddings."""
        first, second = self.tokenize(prompts)
        states, (others, pooled) = penultimate_states(self.l, first)[0], penultimate_states(self.g, second)
        return torch.cat((states, others), -1), pooled


def train_text_encoders(encoders: TextEncoders, schedule: Schedule, folder: Path, log: Logger) -> None:
    """Train both in place, and log how many prompts are read without an error."""
    encoders.held.mask_gradients()
    groups = [{"params": encoders.parameters(), "weight_decay": 0.0}]

    def loss_of(step: int) -> Tensor:
        wanted, first, second = _prompts(encoders, (31, step))
        states, pooled = penultimate_states(encoders.l, first)[0], penultimate_states(encoders.g, second)[1]
        behind = (first == first[0, -1]).float()
        read = (states[..., _STATES] - wanted[:, None]).square().mean(-1)
        return (pooled[:, : len(VECTOR)] - wanted).square().mean() + (read * behind).sum() / behind.sum()

    train("text", encoders, groups, loss_of, schedule, folder / "text", log)
    encoders.eval().requires_grad_(False)
    wanted, _, second = _prompts(encoders, (37, 0))
    right = ((penultimate_states(encoders.g, second)[1][:, : len(VECTOR)] > 0.5) == (wanted > 0.5)).all(1)
    log(f"text: {float(right.float().mean()):.0%} of the prompts are read without an error")


def _prompts(encoders: TextEncoders, key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(key)
    attributes, prompts = zip(*(sample_prompt(rng) for _ in range(_BATCH)), strict=True)
    first, second = encoders.tokenize(prompts)
    wanted = torch.from_numpy(np.stack([attribute_vector(each) for each in attributes]))
    return wanted, first[:, :_TOKENS], second[:, :_TOKENS]
