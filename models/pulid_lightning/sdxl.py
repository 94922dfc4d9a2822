"""SDXL at work: conditions, predicting noise, decoding latents (PuLID specification sections 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from models.errors import WeightsError
from models.pipeline import Pixels
from models.pulid_lightning.attention import IdentityAttention
from models.pulid_lightning.prompt import Tokenizer
from models.pulid_lightning.sampler import Denoise, timestep_of
from models.pulid_lightning.text_encoder import TextEmbeddings

LATENT_CHANNELS: Final = 4
LATENT_SCALE: Final = 8
"""Pixels to a latent, along each side."""
GUIDANCE: Final = 1.2
_END: Final = "<|endoftext|>"
_SECOND_PADDING: Final = 0
"""Token id with which the second text encoder's rows are filled up (PuLID specification section 6)."""


@dataclass(frozen=True)
class Conditions:
    """What the pictures are to show, for the UNet's batch: n unconditional rows, then n conditional ones.

    `tokens` [2n, text tokens, context width]; `mask` [2n, text tokens], True for real tokens, or None if all are;
    `pooled` [2n, pooled width]; `time_ids` [2n, 6].
    """

    tokens: Tensor
    mask: Tensor | None
    pooled: Tensor
    time_ids: Tensor
    identity: IdentityAttention


def load_tokenizers(config: Path) -> tuple[Tokenizer, Tokenizer]:
    """Both tokenizers of a configuration folder in diffusers' layout; raises `WeightsError`."""
    first, second = (_load_tokenizer(config / name) for name in ("tokenizer", "tokenizer_2"))
    second.pad_token_id = _SECOND_PADDING
    return first, second


def condition(
    text: TextEmbeddings, mask: Tensor | None, identity: IdentityAttention, pictures: int, size: tuple[int, int]
) -> Conditions:
    """Repeat both branches for every picture; `size` is (width, height) in px, of the pictures as they are drawn."""
    width, height = size
    time_ids = text.tokens.new_tensor([[height, width, 0, 0, height, width]])
    return Conditions(
        tokens=text.tokens.repeat_interleave(pictures, 0),
        mask=None if mask is None else mask.repeat_interleave(pictures, 0),
        pooled=text.pooled.repeat_interleave(pictures, 0),
        time_ids=time_ids.repeat(2 * pictures, 1),
        identity=identity,
    )


def denoiser(unet: Any, conditions: Conditions) -> Denoise:
    """The UNet with guidance, as a function of latents [n, 4, h, w] (float32) and sigma."""

    def denoise(latents: Tensor, sigma: Tensor) -> Tensor:
        scaled = (latents / (sigma**2 + 1).sqrt()).to(unet.dtype)
        # One batch for both branches: twice the rows cost less than twice the calls.
        noise = unet(
            torch.cat((scaled, scaled)),
            timestep_of(sigma),  # whole timesteps, where diffusers' own schedulers would pass fractions
            encoder_hidden_states=conditions.tokens,
            encoder_attention_mask=conditions.mask,
            added_cond_kwargs={"text_embeds": conditions.pooled, "time_ids": conditions.time_ids},
            cross_attention_kwargs={"identity": conditions.identity},
            return_dict=False,
        )[0]
        uncond, cond = noise.float().chunk(2)
        guided: Tensor = uncond + GUIDANCE * (cond - uncond)
        return latents - sigma * guided

    return denoise


def decode_latents(vae: Any, latents: Tensor) -> Pixels:
    """Decode latents [n, 4, h, w] to pictures [n, 8h, 8w, 3], one after the other to bound memory."""
    pictures = [_decode_one(vae, row[None]) for row in latents]
    pixels: Pixels = torch.cat(pictures).cpu().numpy()
    return pixels


def _decode_one(vae: Any, latents: Tensor) -> Tensor:
    decoded: Tensor = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
    unit = ((decoded.float() + 1) / 2).clamp(0, 1)
    # Truncated, not rounded: as the reference writes its pictures.
    return (unit * 255).to(torch.uint8).permute(0, 2, 3, 1)


def _load_tokenizer(folder: Path) -> Tokenizer:
    try:
        # The second one's own configuration makes "!" its padding, and so a special token: prompts that hold one would
        # be read otherwise than by the reference, which pads by number.
        tokenizer: Tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True, pad_token=_END)
    except (OSError, ValueError) as error:
        raise WeightsError(f"The tokenizer {folder} cannot be loaded: {error}") from error
    return tokenizer
