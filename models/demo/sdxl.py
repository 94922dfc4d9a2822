"""Demo SDXL: the real one's key names and parts with narrow networks of fewer layers.

A configuration folder in diffusers' layout, and single-file checkpoints under SDXL's original names. Text comes from
two encoders of different width; attention is innermost, and where the face is painted: cross-attention is cheap at
the widths and sizes of these two. Training and building share this module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from models.demo import architecture
from models.demo.face_code import CONTEXT_WIDTH
from models.demo.original_keys import clip_g_state, clip_l_key, unet_state, vae_state
from models.demo.tokenizer import MODEL_MAX_LENGTH, PORTRAIT_WORDS, vocabulary_size, write_tokenizer
from models.demo.trained_files import (
    PORTRAIT_TEXT,
    PORTRAIT_TEXT_G,
    PORTRAIT_TEXT_L,
    PORTRAIT_UNET,
    VAE,
    Trained,
)
from models.runtime.state_dicts import StateDict, check_alike, under
from models.weights.file_errors import file_errors

# The UNet's cross-attentions read both encoders' states side by side, and ID tokens of the same width.
_WIDTH_L: Final = 128
_WIDTH_G: Final = CONTEXT_WIDTH - _WIDTH_L
_TIME_WIDTH: Final = 16
_SIZES: Final = 6
_UNET: Final[dict[str, Any]] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["DownBlock2D"] * 5,
    "up_block_types": ["UpBlock2D", "UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [80, 160, 80, 80, 80],
    "layers_per_block": 1,
    "transformer_layers_per_block": [1] * 5,
    "attention_head_dim": [8] * 5,
    "norm_num_groups": 8,
    "cross_attention_dim": CONTEXT_WIDTH,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": _TIME_WIDTH,
    "projection_class_embeddings_input_dim": _WIDTH_G + _SIZES * _TIME_WIDTH,
}
_SCHEDULER: Final[dict[str, Any]] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def unet() -> Any:
    """Make the UNet, of the width of the face code; its weights are the random ones of its constructor."""
    return UNet2DConditionModel(**_UNET)


def text_encoder_l() -> CLIPTextModel:
    """Make the first text encoder: tokens [rows, 77] of `PORTRAIT_WORDS` to states [rows, 77, 128]."""
    return CLIPTextModel(_text_config(_WIDTH_L, "quick_gelu", "CLIPTextModel"))


def text_encoder_g() -> CLIPTextModelWithProjection:
    """Make the second text encoder, which has the rest of the context's width for states and pooled embedding."""
    return CLIPTextModelWithProjection(_text_config(_WIDTH_G, "gelu", "CLIPTextModelWithProjection"))


def write_config(folder: Path, trained: Trained) -> None:
    """Write the configuration of every component and both tokenizers into a new `folder`; raises `WeightsError`."""
    folder.mkdir(parents=True)
    write_tokenizer(folder / "tokenizer", PORTRAIT_WORDS)
    write_tokenizer(folder / "tokenizer_2", PORTRAIT_WORDS, pad_token="!")  # noqa: S106  # no secret
    EulerDiscreteScheduler(**_SCHEDULER).save_pretrained(folder / "scheduler")
    with torch.device("meta"):
        autoencoder = architecture.vae(trained.scaling_factor())
    configs = {
        "unet": {"_class_name": "UNet2DConditionModel", **_UNET},
        "vae": dict(autoencoder.config),
        "text_encoder": _text_config(_WIDTH_L, "quick_gelu", "CLIPTextModel").to_dict(),
        "text_encoder_2": _text_config(_WIDTH_G, "gelu", "CLIPTextModelWithProjection").to_dict(),
    }
    for name, config in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
    (folder / "model_index.json").write_text(json.dumps(_MODEL_INDEX, indent=1))


def write_checkpoint(file: Path, trained: Trained, tuned: Sequence[str] = ()) -> None:
    """Write a single-file checkpoint in float16; raises `WeightsError`.

    `tuned` names the trained files whose tensors replace some of the default UNet's.
    """
    unet_files = [trained.verified(name) for name in (PORTRAIT_UNET, *tuned)]
    network = {key: tensor for path in unet_files for key, tensor in load_file(path).items()}
    text_file = trained.verified(PORTRAIT_TEXT)
    texts = load_file(text_file)
    text_l, text_g = (under(texts, prefix) for prefix in (PORTRAIT_TEXT_L, PORTRAIT_TEXT_G))
    _check(network, unet, *unet_files)
    _check(text_l, text_encoder_l, text_file)
    _check(text_g, text_encoder_g, text_file)
    parts = [
        unet_state(network),
        vae_state(load_file(trained.verified(VAE))),
        {clip_l_key(key): tensor for key, tensor in text_l.items()},
        clip_g_state(text_g),
    ]
    state = {key: tensor.half().contiguous() for part in parts for key, tensor in part.items()}
    save_file(state, file, metadata={"format": "pt"})


def cross_attention_widths() -> dict[int, int]:
    """Inner width of each cross-attention by its processor's index, as a PuLID adapter counts them."""
    with torch.device("meta"):
        network = unet()
    modules = [network.get_submodule(name.removesuffix(".processor")) for name in network.attn_processors]
    return {index: module.inner_dim for index, module in enumerate(modules) if module.is_cross_attention}


def _check(state: StateDict, build: Callable[[], torch.nn.Module], *files: Path) -> None:
    with torch.device("meta"):
        network = build()
    with file_errors(*files):
        check_alike(state, network.state_dict())


def _text_config(width: int, activation: str, architecture: str) -> CLIPTextConfig:
    tokens = vocabulary_size(PORTRAIT_WORDS)
    return CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
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
