"""Training of the autoencoder: first both halves, then the decoder alone with a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.photos import TRAINED_ON, load_photo
from training.networks.colour_path import LATENT_SCALES, freeze_colour_path, to_luma_chroma
from training.stages.loop import Logger, Schedule, device_of, train

_BATCH: Final = 4
_ENCODER_SHARE: Final = 0.3
"""Learning rate of the encoder relative to the decoder's: the decoder has to follow changing latents."""
_LATENT_NOISE: Final = (0.0, 0.0, 0.04, 0.1)
_SCALES: Final = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
"""Scales of the training photos: a request's photo is more often enlarged than reduced."""
_LATENT_STD: Final = 1.3
"""Standard deviation of the scaled latents. At 1, random gradients of the noise mask the gradient of a light."""


def train_autoencoder(vae: Any, joint: Schedule, alone: Schedule, side: int, folder: Path, log: Logger) -> float:
    """Train an AutoencoderKL with its colour path in place, on crops of `side` px.

    Returns the factor that makes its latents' standard deviation `_LATENT_STD`.
    """
    freeze_colour_path(vae)
    crops = Crops(side)
    encoder = {"params": vae.encoder.parameters(), "share": _ENCODER_SHARE, "weight_decay": 0.0}
    decoder = {"params": vae.decoder.parameters(), "weight_decay": 0.0}

    def loss_of_both(step: int) -> Tensor:
        return _loss(vae, crops.sample(step), step, both=True)

    def loss_of_decoder(step: int) -> Tensor:
        return _loss(vae, crops.sample(joint.steps + step), step, both=False)

    train("autoencoder", vae, [encoder, decoder], loss_of_both, joint, folder / "autoencoder", log)
    train("decoder", vae.decoder, [decoder], loss_of_decoder, alone, folder / "decoder", log)
    with torch.inference_mode():
        stds = [_encode(vae, crops.sample(step).to(device_of(vae))).square().mean() for step in range(16)]
    return round(_LATENT_STD * float(torch.stack(stds).mean().rsqrt()), 4)


def _encode(vae: Any, pictures: Tensor) -> Tensor:
    return torch.as_tensor(vae.quant_conv(vae.encoder(pictures)).chunk(2, 1)[0])


def _loss(vae: Any, pictures: Tensor, step: int, both: bool) -> Tensor:
    pictures = pictures.to(device_of(vae))
    with torch.set_grad_enabled(both):
        latents = _encode(vae, pictures)
    generator = torch.Generator().manual_seed(step)
    noise = _LATENT_NOISE[step % len(_LATENT_NOISE)] * torch.randn(latents.shape, generator=generator)
    decoded = vae.decoder(vae.post_quant_conv(latents + noise.to(latents)))
    loss = _difference(decoded, pictures)
    return loss + _latent_drift(latents, pictures) if both else loss


def _difference(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Distance of pictures in -1..1: of values, edges, and colours at reduced sizes."""
    error = decoded - pictures
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    values = error.abs().mean() + 4 * error.square().mean()
    colours = to_luma_chroma(error)
    coarse = sum((F.avg_pool2d(colours, size).abs().mean() for size in (2, 4, 8)), torch.zeros_like(values))
    return values + 0.25 * edges + 0.5 * coarse


def _latent_drift(latents: Tensor, pictures: Tensor) -> Tensor:
    """Distance of the first three latents from their initial values, plus the size of the free one."""
    scales = torch.tensor(LATENT_SCALES, device=latents.device)[:, None, None]
    means = F.avg_pool2d(to_luma_chroma(pictures), 8) * scales
    return 0.2 * (latents[:, :3] - means).abs().mean() + 0.02 * latents[:, 3:].square().mean()


class Crops:
    """Samples batches of square crops of the training photos at many sizes, relit, tinted and cut out at random."""

    def __init__(self, side: int) -> None:
        """Enlarge and reduce every photo; `side` in px."""
        self._side = side
        photos = [torch.from_numpy(load_photo(name).copy()).movedim(-1, 0)[None] for name in TRAINED_ON]
        self._photos = [scaled for photo in photos for scaled in _pyramid(photo, side)]

    def sample(self, step: int) -> Tensor:
        """The batch of that step, [n, 3, side, side] in -1..1."""
        rng = np.random.default_rng((7, step))
        return torch.stack([self._sample(rng) for _ in range(_BATCH)]).clamp(0, 1) * 2 - 1

    def _sample(self, rng: np.random.Generator) -> Tensor:
        photo = self._photos[rng.integers(len(self._photos))]
        top, left = (int(rng.integers(size - self._side + 1)) for size in photo.shape[1:])
        crop = photo[:, top : top + self._side, left : left + self._side].float() / 255
        if rng.random() < 0.12:
            crop = _smooth_colours(rng, self._side, 2)
        if rng.random() < 0.5:
            crop = crop.flip(-1)
        if rng.random() < 0.5:
            crop = crop[torch.from_numpy(rng.permutation(3))]
        if rng.random() < 0.5:
            gain = torch.from_numpy(rng.normal(1, 0.3, 3)).float().clamp(0.2, 2)
            crop = (crop * gain[:, None, None]).clamp(0, 1)
        if rng.random() < 0.35:
            crop = crop * (0.15 + 1.1 * _field(rng, self._side))
        if rng.random() < 0.35:
            alpha = ((_field(rng, self._side) - 0.5) * self._side / 4 + 0.5).clamp(0, 1)
            behind = torch.full_like(crop, 127 / 255) if rng.random() < 0.5 else _smooth_colours(rng, self._side, 2)
            crop = alpha * crop + (1 - alpha) * behind
        return crop


def _pyramid(photo: Tensor, side: int) -> list[Tensor]:
    scaled = []
    for scale in _SCALES:
        height, width = (round(scale * size) for size in photo.shape[2:])
        if side <= min(height, width) and max(height, width) <= 2048:
            levels = F.interpolate(photo.float(), (height, width), mode="bicubic", antialias=True)
            scaled.append(levels[0].clamp(0, 255).round().to(torch.uint8))
    return scaled


def _field(rng: np.random.Generator, side: int, cells: int = 3) -> Tensor:
    """A smooth random field [1, side, side] in 0..1."""
    coarse = torch.from_numpy(rng.random((1, 1, cells + 1, cells + 1))).float()
    return F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)[0].clamp(0, 1)


def _smooth_colours(rng: np.random.Generator, side: int, cells: int) -> Tensor:
    return torch.cat([_field(rng, side, cells) for _ in range(3)])
