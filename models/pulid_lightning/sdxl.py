"""SDXL checkpoints: loading single files offline, predicting noise, decoding latents.

Source: PuLID specification sections 7 and 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTokenizer

from models.errors import WeightsError
from models.pipeline import Pixels
from models.pulid_lightning.attention import IdentityAttention
from models.pulid_lightning.prompt import Tokenizer
from models.pulid_lightning.sampler import Denoise, timestep_of
from models.pulid_lightning.sharing import TensorPool
from models.pulid_lightning.text_encoder import Encode, TextEmbeddings, penultimate

LATENT_CHANNELS: Final = 4
LATENT_SCALE: Final = 8
"""Pixels to a latent, along each side."""
GUIDANCE: Final = 1.2
SDXL: Final = Path(__file__).with_name("configs") / "sdxl"
"""The sizes of SDXL's networks, in diffusers' layout."""
_INDEX: Final = "model_index.json"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint's networks, on the device."""

    unet: Any
    vae: Any
    clip_l: Encode
    clip_g: Encode


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
    return first, second


def load_checkpoint(path: Path, config: Path, device: torch.device, pool: TensorPool | None = None) -> Checkpoint:
    """Load a single-file checkpoint with original keys; raises `WeightsError`.

    Sizes come from the folder `config` if it names them, else they are SDXL's own; either way nothing is fetched.
    What it has in common with other checkpoints of the same `pool` is kept once.
    Half precision on CUDA, except for the VAE, whose activations exceed float16; float32 elsewhere.
    """
    half = device.type == "cuda"
    try:
        loaded = StableDiffusionXLPipeline.from_single_file(
            str(path),
            config=str(config if (config / _INDEX).is_file() else SDXL),
            scheduler=None,
            tokenizer=None,
            tokenizer_2=None,
            torch_dtype=torch.float16 if half else torch.float32,
            local_files_only=True,
        )
    except NotImplementedError as error:  # torch's word for weights that were declared, but not in the file
        raise WeightsError(f"The checkpoint {path} lacks tensors.") from error
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise WeightsError(f"The checkpoint {path} cannot be loaded: {error}") from error
    vae_dtype = _wide_half() if half else torch.float32
    unet, clip_l, clip_g = loaded.unet.to(device), loaded.text_encoder.to(device), loaded.text_encoder_2.to(device)
    vae = loaded.vae.to(device, vae_dtype)
    pool = pool or TensorPool()
    for kind, network in {"unet": unet, "vae": vae, "clip_l": clip_l, "clip_g": clip_g}.items():
        pool.share(kind, network.eval().requires_grad_(False))
    return Checkpoint(unet=unet, vae=vae, clip_l=penultimate(clip_l), clip_g=penultimate(clip_g))


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
        tokenizer: Tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise WeightsError(f"The tokenizer {folder} cannot be loaded: {error}") from error
    return tokenizer


def _wide_half() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
