"""Training of the matting network on pictures whose alpha is known."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.demo.trained_files import save_trained
from models.ic_light.rmbg import Rmbg
from training.data.matting_samples import draw_batch
from training.networks.matting_network import colours_of, lay_finest_level, maps_of, new_network
from training.stages.loop import Say, Schedule, device_of, train

SCHEDULE: Final = Schedule(steps=2400, rate=4e-3, average=0.99)
_SMALL: Final = (8, ((112, 112), (96, 128), (128, 96), (128, 128)))
_LARGE: Final = (3, ((256, 256), (224, 288), (288, 224), (256, 192)))
"""Pictures of a batch, and their (width, height) in px in successive steps; a feed's sides are four times as long."""
_SMALL_SHARE: Final = 0.6
"""How much of training is done on small pictures, which come first: what a subject is needs many pictures."""
_COARSE_SHARE: Final = 0.15
"""What the loss of each coarser map counts."""
_EDGE_SHARE: Final = 2.0
_SETTLING: Final = 64
"""Batches, of large pictures, over which the norms' statistics are measured in the end."""
_SEED: Final = 14
_CPU: Final = torch.device("cpu")


def train_matting(
    file: Path,
    folder: Path,
    say: Say,
    schedule: Schedule = SCHEDULE,
    device: torch.device = _CPU,
    seed: int = _SEED,
) -> None:
    """Train a matting network and write it to `file`, in RMBG-1.4's keys and float16; checkpoints go to `folder`."""
    network = new_network(seed).train().to(device).to(memory_format=torch.channels_last)
    trained = [{"params": [weight for weight in network.parameters() if weight.requires_grad]}]
    train(
        *("matting", network, trained),
        lambda step: loss_of(network, _draw(seed, step, schedule.steps), step),
        *(schedule, folder / "matting", say),
    )
    _settle_norms(network, seed, schedule.steps)
    lay_finest_level(network)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_trained(file, network.cpu().state_dict())


def _draw(seed: int, step: int, steps: int) -> tuple[Tensor, Tensor]:
    count, sizes = _SMALL if step < _SMALL_SHARE * steps else _LARGE
    return draw_batch(seed, step, count, *sizes[step % len(sizes)])


def loss_of(network: Rmbg, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    """The loss of a batch as `draw_batch` gives it, a scalar; the grain of its pictures is that step's."""
    pictures, alpha = (tensor.to(device_of(network)) for tensor in batch)
    finest, *coarser = maps_of(network, _enlarged(pictures, step))
    loss = _difference(finest, alpha)
    for logits in coarser:
        seen = F.interpolate(alpha, size=logits.shape[2:], mode="area")
        loss = loss + _COARSE_SHARE * F.binary_cross_entropy_with_logits(logits, seen)
    return loss


def _enlarged(pictures: Tensor, step: int) -> Tensor:
    """The colours of pictures at half the feed's sides, more or less grainy as enlarged pictures are."""
    half = F.interpolate(pictures, scale_factor=2, mode="bilinear", align_corners=False)
    generator = torch.Generator().manual_seed(step)
    grain = torch.rand((len(half), 1, 1, 1), generator=generator).square()
    noise = grain * torch.randn(half.shape, generator=generator)
    return colours_of((half + 0.12 * noise.to(half)).clamp(-1, 1)).contiguous(memory_format=torch.channels_last)


def _difference(logits: Tensor, alpha: Tensor) -> Tensor:
    """How far a map is from alpha: px by px, as a whole (intersection over union), and in its edges."""
    found = logits.sigmoid()
    both = (found * alpha).sum((1, 2, 3))
    either = (found + alpha - found * alpha).sum((1, 2, 3))
    error = found - alpha
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return F.binary_cross_entropy_with_logits(logits, alpha) + 0.5 * (1 - both / either).mean() + _EDGE_SHARE * edges


@torch.inference_mode()
def _settle_norms(network: Rmbg, seed: int, steps: int) -> None:
    """Measure means and variances anew, with the weights as they are, and keep them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    for step in range(steps, steps + min(_SETTLING, steps)):
        pictures, _ = _draw(seed, step, steps)
        maps_of(network, _enlarged(pictures.to(device_of(network)), step))
    network.eval()
