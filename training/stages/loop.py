"""The training loop: progress bar, checkpoints to resume from, cosine schedule of the learning rate, weight average."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from tqdm import trange

Logger = Callable[[str], None]
"""Takes one line of the training log."""
_CHECKPOINT_EVERY: Final = 500
_LOG_EVERY: Final = 100
"""Steps whose mean loss the bar and the log show."""


class LossFunction(Protocol):
    """The loss of a step; its batch depends on the step's number only."""

    def __call__(self, step: int) -> Tensor:
        """The loss, a scalar that carries gradients."""


@dataclass(frozen=True)
class Schedule:
    """Number of steps and learning rate: linear warm-up for `warm_up` steps, then a cosine down to `final_share`."""

    steps: int
    rate: float
    warm_up: int = 60
    final_share: float = 0.03
    ema_decay: float = 0.0
    """Decay of the exponential moving average of the weights, which is the result; 0: the last weights are."""

    def rate_at(self, step: int) -> float:
        """Learning rate of step 0, 1, …"""
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.rate * rise * (self.final_share + (1 - self.final_share) * fall)


@dataclass
class WeightAverage:
    """An exponential moving average of a network's weights; its window grows, as early weights are poor."""

    decay: float
    weights: dict[str, Tensor] = field(default_factory=dict)

    def update(self, network: nn.Module, step: int) -> None:
        """Add the weights after `step`."""
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
    loss_of: LossFunction,
    schedule: Schedule,
    checkpoint: Path,
    log: Logger,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Train `network` in place; resumes from the checkpoint if there is one.

    `groups` are AdamW's parameter groups; a group's `share` multiplies the schedule's rate. `after_step` may change the
    weights after each step.
    """
    optimiser = torch.optim.AdamW([{"share": 1.0, **group} for group in groups], betas=(0.9, 0.99), weight_decay=0.01)
    weight_average, begin, recent = WeightAverage(schedule.ema_decay), 0, 0.0
    if checkpoint.is_file():
        begin = _load_checkpoint(checkpoint, network, optimiser, weight_average)
        log(f"{name}: resumes at step {begin}")
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
        if schedule.ema_decay:
            weight_average.update(network, step)
        recent += loss.item()
        if (step + 1) % _LOG_EVERY == 0:
            log(f"{name}: step {step + 1} of {schedule.steps}, loss {recent / _LOG_EVERY:.4f}")
            bar.set_postfix(loss=recent / _LOG_EVERY)
            recent = 0.0
        if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == schedule.steps:
            _save_checkpoint(checkpoint, network, optimiser, weight_average, step + 1)
    if weight_average.weights:
        network.load_state_dict(weight_average.weights)


def device_of(network: nn.Module) -> torch.device:
    """The device of a network; batches are sampled on the CPU, so that they are the same for all devices."""
    return next(network.parameters()).device


def _save_checkpoint(path: Path, network: nn.Module, optimiser: Any, weight_average: WeightAverage, step: int) -> None:
    draft = path.with_suffix(".draft")
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "averaged": weight_average.weights}
    torch.save({**state, "step": step}, draft)
    draft.replace(path)


def _load_checkpoint(path: Path, network: nn.Module, optimiser: Any, weight_average: WeightAverage) -> int:
    state = torch.load(path, weights_only=True, map_location=device_of(network))
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    weight_average.weights = state["averaged"]
    return int(state["step"])
