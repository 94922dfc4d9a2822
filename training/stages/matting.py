"""Training of the matting network on pictures whose alpha is known."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.demo.trained_files import save_trained
from models.ic_light.rmbg import Rmbg
from training.data.matting_samples import sample_batch
from training.networks.matting_network import colours_of, init_finest_level, maps_of, new_network
from training.stages.loop import Logger, Schedule, device_of, train

SCHEDULE: Final = Schedule(steps=2400, rate=4e-3, ema_decay=0.99)
_SMALL: Final = (8, ((112, 112), (96, 128), (128, 96), (128, 128)))
_LARGE: Final = (3, ((256, 256), (224, 288), (288, 224), (256, 192)))
"""Pictures per batch, and their (width, height) in px in successive steps; the input's sides are 4 times as long."""
_SMALL_SHARE: Final = 0.6
"""Share of the steps on small pictures, which come first: recognising subjects takes many pictures."""
_COARSE_SHARE: Final = 0.15
"""Weight of each coarser map's loss."""
_EDGE_SHARE: Final = 2.0
_NORM_BATCHES: Final = 64
"""Batches of large pictures over which the batch norms' statistics are recomputed in the end."""
_SEED: Final = 14
_CPU: Final = torch.device("cpu")


def train_matting(
    file: Path,
    folder: Path,
    log: Logger,
    schedule: Schedule = SCHEDULE,
    device: torch.device = _CPU,
    seed: int = _SEED,
) -> None:
    """Train a matting network and write it to `file`, in RMBG-1.4's keys and float16; checkpoints go to `folder`."""
    network = new_network(seed).train().to(device).to(memory_format=torch.channels_last)
    trained = [{"params": [weight for weight in network.parameters() if weight.requires_grad]}]
    train(
        *("matting", network, trained),
        lambda step: loss_of(network, _sample(seed, step, schedule.steps), step),
        *(schedule, folder / "matting", log),
    )
    _recompute_norm_statistics(network, seed, schedule.steps)
    init_finest_level(network)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_trained(file, network.cpu().state_dict())


def _sample(seed: int, step: int, steps: int) -> tuple[Tensor, Tensor]:
    count, sizes = _SMALL if step < _SMALL_SHARE * steps else _LARGE
    return sample_batch(seed, step, count, *sizes[step % len(sizes)])


def loss_of(network: Rmbg, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    """The loss, a scalar, of a batch from `sample_batch`; `step` seeds the grain of its pictures."""
    pictures, alpha = (tensor.to(device_of(network)) for tensor in batch)
    finest, *coarser = maps_of(network, _enlarged(pictures, step))
    loss = _difference(finest, alpha)
    for logits in coarser:
        seen = F.interpolate(alpha, size=logits.shape[2:], mode="area")
        loss = loss + _COARSE_SHARE * F.binary_cross_entropy_with_logits(logits, seen)
    return loss


def _enlarged(pictures: Tensor, step: int) -> Tensor:
    """The colours of pictures at half the input's sides, with random grain."""
    half = F.interpolate(pictures, scale_factor=2, mode="bilinear", align_corners=False)
    generator = torch.Generator().manual_seed(step)
    grain = torch.rand((len(half), 1, 1, 1), generator=generator).square()
    noise = grain * torch.randn(half.shape, generator=generator)
    return colours_of((half + 0.12 * noise.to(half)).clamp(-1, 1)).contiguous(memory_format=torch.channels_last)


def _difference(logits: Tensor, alpha: Tensor) -> Tensor:
    """Loss of a map: binary cross-entropy, intersection over union, and the difference of edges."""
    found = logits.sigmoid()
    both = (found * alpha).sum((1, 2, 3))
    either = (found + alpha - found * alpha).sum((1, 2, 3))
    error = found - alpha
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return F.binary_cross_entropy_with_logits(logits, alpha) + 0.5 * (1 - both / either).mean() + _EDGE_SHARE * edges


@torch.inference_mode()
def _recompute_norm_statistics(network: Rmbg, seed: int, steps: int) -> None:
    """Recompute the batch norms' statistics with the final weights."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    for step in range(steps, steps + min(_NORM_BATCHES, steps)):
        pictures, _ = _sample(seed, step, steps)
        maps_of(network, _enlarged(pictures.to(device_of(network)), step))
    network.eval()
