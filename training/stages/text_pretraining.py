"""Pretraining of the text encoder: every state of a prompt predicts the colour change of its scene.

A word is one of 77 states, and from random weights the denoiser learns to ignore it, as the noisy picture itself soon
shows its colours. So the text encoder is trained first, alone: the first dimensions of its states regress the mean
change that the light makes to the subject's latents. Most states follow all words and attend to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from training.data.dataset import Examples
from training.networks.text_bypass import COLOUR_STATES
from training.stages.loop import Logger, Schedule, train

_BATCH: Final = 128
_BEHIND: Final = 16
"""Index of the first trained state: few prompts have more tokens."""
_MOST: Final = 3.0
"""Largest target, in standard deviations."""


def pretrain_colour_states(
    text_encoder: Any,
    dataset: Sequence[Examples],
    tokens: Sequence[Tensor],
    schedule: Schedule,
    folder: Path,
    log: Logger,
) -> None:
    """Train the text encoder in place; `tokens` [n, 77] are the prompts of each size."""
    prompts, colours = torch.cat(list(tokens)), torch.cat([mean_change(examples) for examples in dataset])
    spread = colours.std(dim=0).clamp(min=1e-3)
    targets = ((colours - colours.mean(dim=0)) / spread).clamp(-_MOST, _MOST)

    def loss_of(step: int) -> Tensor:
        rows = np.random.default_rng((17, step)).integers(len(prompts), size=_BATCH)
        states = text_encoder(prompts[rows].to(text_encoder.device)).last_hidden_state[:, _BEHIND:]
        return torch.as_tensor((states[..., :COLOUR_STATES] - targets[rows, None].to(states)).square().mean())

    train("text", text_encoder, [{"params": text_encoder.parameters()}], loss_of, schedule, folder / "text", log)


def mean_change(examples: Examples) -> Tensor:
    """Change of the foreground's latents by light and background, averaged over each picture: [n, 4]."""
    return (examples.targets.float() - examples.foregrounds[examples.subjects].float()).mean(dim=(2, 3))
