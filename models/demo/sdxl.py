"""Demo SDXL: the real one's topology and key names with narrow networks.

A configuration folder in diffusers' layout, and single-file checkpoints under SDXL's original names. As in the real
UNet there are 70 cross-attentions, and text comes from two encoders of different width.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from models.demo.original_keys import clip_g_state, clip_l_key, unet_key, vae_state
from models.demo.random_weights import random_state
from models.demo.tokenizer import MODEL_MAX_LENGTH, vocabulary_size, write_tokenizer

# diffusers tells the two text encoders of a single file apart by their widths.
_WIDTH_L: Final = 32
_WIDTH_G: Final = 48
CONTEXT_WIDTH: Final = _WIDTH_L + _WIDTH_G
"""Width of the text and of the ID tokens, for the UNet's cross-attentions."""
_TIME_WIDTH: Final = 16
_UNET: Final[dict[str, Any]] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [16, 24, 32],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [1, 1, 2],
    "norm_num_groups": 8,
    "cross_attention_dim": CONTEXT_WIDTH,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": _TIME_WIDTH,
    "projection_class_embeddings_input_dim": _WIDTH_G + 6 * _TIME_WIDTH,
}
_VAE: Final[dict[str, Any]] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [8, 16, 24, 24],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": True,
}
_SCHEDULER: Final[dict[str, Any]] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def write_config(folder: Path) -> None:
    """Write the configuration of every component and both tokenizers into a new `folder`."""
    folder.mkdir(parents=True)
    write_tokenizer(folder / "tokenizer")
    write_tokenizer(folder / "tokenizer_2", pad_token="!")  # noqa: S106  # no secret
    EulerDiscreteScheduler(**_SCHEDULER).save_pretrained(folder / "scheduler")
    configs = {
        "unet": {"_class_name": "UNet2DConditionModel", **_UNET},
        "vae": {"_class_name": "AutoencoderKL", **_VAE},
        "text_encoder": _text_config(_WIDTH_L, "quick_gelu", "CLIPTextModel").to_dict(),
        "text_encoder_2": _text_config(_WIDTH_G, "gelu", "CLIPTextModelWithProjection").to_dict(),
    }
    for name, config in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
    (folder / "model_index.json").write_text(json.dumps(_MODEL_INDEX, indent=1))


def write_checkpoint(file: Path, seed: int) -> None:
    """Write a single-file checkpoint in float16, with random weights from `seed`."""
    state = {key: tensor.half().contiguous() for part in _parts(seed) for key, tensor in part.items()}
    save_file(state, file, metadata={"format": "pt"})


def cross_attention_widths() -> dict[int, int]:
    """Inner width of each cross-attention by its processor's index, as a PuLID adapter counts them."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**_UNET)
    modules = [unet.get_submodule(name.removesuffix(".processor")) for name in unet.attn_processors]
    return {index: module.inner_dim for index, module in enumerate(modules) if module.is_cross_attention}


def _parts(seed: int) -> list[dict[str, Tensor]]:
    clip_l = _text_config(_WIDTH_L, "quick_gelu", "CLIPTextModel")
    clip_g = _text_config(_WIDTH_G, "gelu", "CLIPTextModelWithProjection")
    return [
        _renamed(_draw(lambda: UNet2DConditionModel(**_UNET), seed), unet_key),
        vae_state(_draw(lambda: AutoencoderKL(**_VAE), seed + 1)),
        _renamed(_draw(lambda: CLIPTextModel(clip_l), seed + 2), clip_l_key),
        clip_g_state(_draw(lambda: CLIPTextModelWithProjection(clip_g), seed + 3)),
    ]


def _draw(build: Callable[[], torch.nn.Module], seed: int) -> dict[str, Tensor]:
    # Only shapes are needed; initialising would cost seconds.
    with torch.device("meta"):
        module = build()
    return random_state(module.state_dict(), seed)


def _renamed(state: dict[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    return {rename(key): tensor for key, tensor in state.items()}


def _text_config(width: int, activation: str, architecture: str) -> CLIPTextConfig:
    tokens = vocabulary_size()
    return CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=width,
        max_position_embeddings=MODEL_MAX_LENGTH,
        hidden_act=activation,
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        architectures=[architecture],
    )


_MODEL_INDEX: Final[dict[str, Any]] = {
    "_class_name": "StableDiffusionXLPipeline",
    "force_zeros_for_empty_prompt": True,
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
