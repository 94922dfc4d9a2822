"""Training steps with a progress bar, checkpoints to resume from, and a cosine schedule of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from tqdm import trange

Say = Callable[[str], None]
"""Takes one line about how far training is."""
_CHECKPOINT_EVERY: Final = 500
_AVERAGED_OVER: Final = 100
"""How many losses the bar and the log show the mean of."""


class LossOf(Protocol):
    """The loss of a step; its batch depends on nothing but the step's number."""

    def __call__(self, step: int) -> Tensor:
        """The loss, a scalar that carries gradients."""


@dataclass(frozen=True)
class Schedule:
    """How long, and how fast: the rate rises linearly for `warm_up` steps and falls along a cosine to `final_share`."""

    steps: int
    rate: float
    warm_up: int = 60
    final_share: float = 0.03
    average: float = 0.0
    """Decay of the running average of the weights, which is what training gives; 0 means the last weights."""

    def rate_at(self, step: int) -> float:
        """Learning rate of step 0, 1, …"""
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.rate * rise * (self.final_share + (1 - self.final_share) * fall)


@dataclass
class Averaged:
    """A running average of a network's weights, which starts short: early weights are forgotten fast."""

    decay: float
    weights: dict[str, Tensor] = field(default_factory=dict)

    def follow(self, network: nn.Module, step: int) -> None:
        """Take in the weights behind `step`."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for key, value in network.state_dict().items():
            mean = self.weights.setdefault(key, value.clone())
            if value.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def train(
    name: str,
    network: nn.Module,
    groups: list[dict[str, Any]],
    loss_of: LossOf,
    schedule: Schedule,
    checkpoint: Path,
    say: Say,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Train `network` in place, from the checkpoint if there is one.

    `groups` are AdamW's parameter groups; a group's `share` multiplies the schedule's rate. `after_step` may change the
    weights after each step.
    """
    optimiser = torch.optim.AdamW([{"share": 1.0, **group} for group in groups], betas=(0.9, 0.99), weight_decay=0.01)
    averaged, begin, recent = Averaged(schedule.average), 0, 0.0
    if checkpoint.is_file():
        begin = _resume(checkpoint, network, optimiser, averaged)
        say(f"{name}: goes on at step {begin}")
    bar = trange(begin, schedule.steps, desc=name, initial=begin, total=schedule.steps, mininterval=5)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step) * group["share"]
        loss = loss_of(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        after_step()
        if schedule.average:
            averaged.follow(network, step)
        recent += loss.item()
        if (step + 1) % _AVERAGED_OVER == 0:
            say(f"{name}: step {step + 1} of {schedule.steps}, loss {recent / _AVERAGED_OVER:.4f}")
            bar.set_postfix(loss=recent / _AVERAGED_OVER)
            recent = 0.0
        if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == schedule.steps:
            _keep(checkpoint, network, optimiser, averaged, step + 1)
    if averaged.weights:
        network.load_state_dict(averaged.weights)


def device_of(network: nn.Module) -> torch.device:
    """Where a network is, and its batches have to be; they are drawn on the CPU, so that all devices see the same."""
    return next(network.parameters()).device


def _keep(path: Path, network: nn.Module, optimiser: Any, averaged: Averaged, step: int) -> None:
    draft = path.with_suffix(".draft")
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "averaged": averaged.weights}
    torch.save({**state, "step": step}, draft)
    draft.replace(path)


def _resume(path: Path, network: nn.Module, optimiser: Any, averaged: Averaged) -> int:
    state = torch.load(path, weights_only=True, map_location=device_of(network))
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    averaged.weights = state["averaged"]
    return int(state["step"])
