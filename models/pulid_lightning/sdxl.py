"""SDXL at work: conditions, predicting noise, decoding latents (PuLID specification sections 7 and 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from models.outcomes import Decoded, joined, non_finite
from models.pulid_lightning.attention import IdentityContext, attend_with_identity
from models.pulid_lightning.prompt import Tokenizer
from models.pulid_lightning.sampler import Denoise, evaluated_sigmas, timestep_of
from models.pulid_lightning.single_file import component_sizes, recorded_sizes
from models.runtime.tokenizers import load_tokenizer
from models.runtime.unet import evaluate, time_shifts
from models.weights.folder import Folder

LATENT_CHANNELS: Final = 4
LATENT_SCALE: Final = 8
"""Pixels to a latent, along each side."""
GUIDANCE: Final = 1.2
_END: Final = "<|endoftext|>"
_SECOND_PADDING: Final = 0
"""Token id with which the second text encoder's rows are filled up (PuLID specification section 6)."""


Predict = Callable[[Any, Tensor, Tensor, tuple[IdentityContext, ...]], Tensor]
"""A UNet, its input, the shift of the timestep and the contexts give the predicted noise [rows, 4, h, w]."""


Decode = Callable[[Any, Tensor], Decoded]
"""A VAE and the latents of one picture give the picture."""


@dataclass(frozen=True)
class Conditions:
    """What n pictures are to show, for the UNet's batch: n unconditional rows, then n conditional ones.

    `contexts`: one for each cross-attention. `shifts`: what each timestep that is evaluated adds, [2n, channels].
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
    """Sizes as the UNet is told them [rows, 6]; `size` is (width, height) in px, of the pictures as they are drawn."""
    width, height = size
    return torch.tensor([[height, width, 0, 0, height, width]], device=device).expand(rows, -1)


def timestep_shifts(unet: Any, sigmas: Tensor, added: Tensor) -> dict[int, Tensor]:
    """For every timestep that sampling along `sigmas` evaluates, what it adds: [rows, channels]."""
    timesteps = [timestep_of(sigma) for sigma in evaluated_sigmas(sigmas)]
    # Whole timesteps, where diffusers' own schedulers would pass fractions.
    return dict(zip(timesteps, time_shifts(unet, torch.tensor(timesteps, device=added.device), added), strict=True))


def denoiser(predict: Predict, unet: Any, conditions: Conditions) -> Denoise:
    """The UNet with guidance, as a function of latents [n, 4, h, w] (float32) and sigma."""

    def denoise(latents: Tensor, sigma: Tensor) -> Tensor:
        scaled = (latents / (sigma**2 + 1).sqrt()).to(unet.dtype)
        # One batch for both branches: twice the rows cost less than twice the calls.
        noise = predict(unet, torch.cat((scaled, scaled)), conditions.shifts[timestep_of(sigma)], conditions.contexts)
        uncond, cond = noise.float().chunk(2)
        guided: Tensor = uncond + GUIDANCE * (cond - uncond)
        return latents - sigma * guided

    return denoise


def decode_picture(vae: Any, latents: Tensor) -> Decoded:
    """Decode latents [1, 4, h, w] (float32) to a picture [1, 8h, 8w, 3] of 8 bits; a `Decode`."""
    decoded: Tensor = vae.decoder(vae.post_quant_conv((latents / vae.config.scaling_factor).to(vae.dtype)))
    unit = ((decoded.float() + 1) / 2).clamp(0, 1)
    # Truncated, not rounded: as the reference writes its pictures.
    return Decoded((unit * 255).to(torch.uint8).permute(0, 2, 3, 1), non_finite(latents, decoded))


def decode_latents(decode: Decode, vae: Any, latents: Tensor) -> Decoded:
    """Decode latents [n, 4, h, w] to pictures [n, 8h, 8w, 3], one after the other to bound memory."""
    return joined([decode(vae, row) for row in torch.split(latents, 1)])
