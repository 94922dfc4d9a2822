"""Where the text encoder starts: every state of a text says which colours its picture has.

A word is one of 77 states, and from random weights the denoiser learns to overlook it, as the noisy picture itself soon
shows its colours. So the text encoder learns first, alone: the first values of all its states are to be the mean change
that the light makes to the subject's latents. States behind the words, which are most, see all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from training.data.dataset import Examples
from training.networks.text_bypass import TAUGHT
from training.stages.loop import Say, Schedule, train

_BATCH: Final = 128
_BEHIND: Final = 16
"""States from this one on are taught: few prompts have more tokens."""
_MOST: Final = 3.0
"""Largest value taught, in standard deviations."""


def teach_colours(
    text_encoder: Any,
    pool: Sequence[Examples],
    tokens: Sequence[Tensor],
    schedule: Schedule,
    folder: Path,
    say: Say,
) -> None:
    """Train the text encoder in place; `tokens` are the pool's prompts, [n, 77] each."""
    prompts, colours = torch.cat(list(tokens)), torch.cat([mean_change(examples) for examples in pool])
    spread = colours.std(dim=0).clamp(min=1e-3)
    taught = ((colours - colours.mean(dim=0)) / spread).clamp(-_MOST, _MOST)

    def loss_of(step: int) -> Tensor:
        rows = np.random.default_rng((17, step)).integers(len(prompts), size=_BATCH)
        states = text_encoder(prompts[rows].to(text_encoder.device)).last_hidden_state[:, _BEHIND:]
        return torch.as_tensor((states[..., :TAUGHT] - taught[rows, None].to(states)).square().mean())

    train("text", text_encoder, [{"params": text_encoder.parameters()}], loss_of, schedule, folder / "text", say)


def mean_change(examples: Examples) -> Tensor:
    """What light and background change of the foreground's latents, averaged over each picture: [n, 4]."""
    return (examples.targets.float() - examples.foregrounds[examples.subjects].float()).mean(dim=(2, 3))
