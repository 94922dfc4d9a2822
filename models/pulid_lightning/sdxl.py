"""SDXL: size conditions, noise prediction with guidance, VAE decoding (PuLID specification sections 6 to 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from models.outcomes import Decoded, concatenate, non_finite
from models.pulid_lightning.attention import IdentityContext, attend_with_identity
from models.pulid_lightning.prompt import Tokenizer
from models.pulid_lightning.sampler import Denoise, evaluated_sigmas, timestep_of
from models.pulid_lightning.single_file import component_sizes, recorded_sizes
from models.runtime.tokenizers import load_tokenizer
from models.runtime.unet import evaluate, time_shifts
from models.weights.folder import Folder

LATENT_CHANNELS: Final = 4
LATENT_SCALE: Final = 8
"""Pixels per latent along each side."""
GUIDANCE: Final = 1.2
_END: Final = "<|endoftext|>"
_SECOND_PADDING: Final = 0
"""Padding token id of the second text encoder (PuLID specification section 6)."""


Predict = Callable[[Any, Tensor, Tensor, tuple[IdentityContext, ...]], Tensor]
"""(UNet, input, time shift, contexts) -> predicted noise [rows, 4, h, w]."""


Decode = Callable[[Any, Tensor], Decoded]
"""(VAE, latents of one image) -> the image."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of n images in the UNet's batch: n unconditional rows, then n conditional ones.

    `contexts`: one per cross-attention. `shifts`: time and size embedding [2n, channels] of each evaluated timestep.
    """

    contexts: tuple[IdentityContext, ...]
    shifts: Mapping[int, Tensor]


def predict_noise(unet: Any, latents: Tensor, shift: Tensor, contexts: tuple[IdentityContext, ...]) -> Tensor:
    """One evaluation with text and identity; a `Predict`."""
    return evaluate(unet, latents, shift, contexts, attend_with_identity)


def load_tokenizers(config: Folder) -> tuple[Tokenizer, Tokenizer]:
    """Both tokenizers of a configuration folder in diffusers' layout; raises `WeightFileError`."""
    first, second = (
        load_tokenizer(
            config.inner(tokenizer),
            component_sizes(config, encoder).get("vocab_size", 0),
            recorded_sizes(config, encoder),
            # The second one's own configuration makes "!" its padding, and so a special token: prompts that hold one
            # would be read otherwise than by the reference, which pads by number.
            pad_token=_END,
        )
        for tokenizer, encoder in (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
    )
    second.pad_token_id = _SECOND_PADDING
    return first, second


def time_ids(size: tuple[int, int], rows: int, device: torch.device) -> Tensor:
    """SDXL's size conditions [rows, 6]; `size` is the (width, height) of the images in px."""
    width, height = size
    return torch.tensor([[height, width, 0, 0, height, width]], device=device).expand(rows, -1)


def timestep_shifts(unet: Any, sigmas: Tensor, added: Tensor) -> dict[int, Tensor]:
    """Time and size embedding [rows, channels] of each timestep that sampling along `sigmas` evaluates."""
    timesteps = [timestep_of(sigma) for sigma in evaluated_sigmas(sigmas)]
    # Integer timesteps, where diffusers' schedulers would pass fractional ones.
    return dict(zip(timesteps, time_shifts(unet, torch.tensor(timesteps, device=added.device), added), strict=True))


def denoiser(predict: Predict, unet: Any, conditions: Conditions) -> Denoise:
    """The UNet with guidance as a function of float32 latents [n, 4, h, w] and sigma."""

    def denoise(latents: Tensor, sigma: Tensor) -> Tensor:
        scaled = (latents / (sigma**2 + 1).sqrt()).to(unet.dtype)
        # Both branches in one batch: 2n rows in one call are faster than two calls.
        noise = predict(unet, torch.cat((scaled, scaled)), conditions.shifts[timestep_of(sigma)], conditions.contexts)
        uncond, cond = noise.float().chunk(2)
        guided: Tensor = uncond + GUIDANCE * (cond - uncond)
        return latents - sigma * guided

    return denoise


def decode_picture(vae: Any, latents: Tensor) -> Decoded:
    """Decode float32 latents [1, 4, h, w] to a uint8 image [1, 8h, 8w, 3]; a `Decode`."""
    decoded: Tensor = vae.decoder(vae.post_quant_conv((latents / vae.config.scaling_factor).to(vae.dtype)))
    unit = ((decoded.float() + 1) / 2).clamp(0, 1)
    # Truncated, not rounded, as in the reference.
    return Decoded((unit * 255).to(torch.uint8).permute(0, 2, 3, 1), non_finite(latents, decoded))


def decode_latents(decode: Decode, vae: Any, latents: Tensor) -> Decoded:
    """Decode latents [n, 4, h, w] to images [n, 8h, 8w, 3], one by one to bound the memory."""
    return concatenate([decode(vae, row) for row in torch.split(latents, 1)])
