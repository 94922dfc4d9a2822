"""SDXL's original parameter names, from those of diffusers and transformers: single-file checkpoints have these.

The loaders' own conversion goes the other way; the two meet in the test that loads what is written here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

import torch
from torch import Tensor

_UNET: Final = "model.diffusion_model."
_VAE: Final = "first_stage_model."
_CLIP_L: Final = "conditioner.embedders.0.transformer.text_model."
_CLIP_G: Final = "conditioner.embedders.1.model."
_VAE_LEVELS: Final = 4

_UNET_STEMS: Final = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_UNET_RESNET: Final = {
    ".norm1.": ".in_layers.0.",
    ".conv1.": ".in_layers.2.",
    ".time_emb_proj.": ".emb_layers.1.",
    ".norm2.": ".out_layers.0.",
    ".conv2.": ".out_layers.3.",
    ".conv_shortcut.": ".skip_connection.",
}
_VAE_PARTS: Final = {
    "mid_block.resnets.0.": "mid.block_1.",
    "mid_block.resnets.1.": "mid.block_2.",
    "mid_block.attentions.0.": "mid.attn_1.",
    ".group_norm.": ".norm.",
    ".to_q.": ".q.",
    ".to_k.": ".k.",
    ".to_v.": ".v.",
    ".to_out.0.": ".proj_out.",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "downsamplers.0.conv": "downsample.conv",
    "upsamplers.0.conv": "upsample.conv",
    ".resnets.": ".block.",
}
_CLIP_G_PARTS: Final = {
    "text_model.": "",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.": "attn.",
    "final_layer_norm": "ln_final",
}


def unet_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A UNet's whole state dict under its original names; SDXL's, or one of other depth or with attention elsewhere."""
    per_level = 1 + sum(bool(re.fullmatch(r"down_blocks\.0\.resnets\.\d\.norm1\.weight", key)) for key in state)
    attentive = {key[: key.index(".attentions.")] for key in state if ".attentions." in key}
    return {_UNET + _unet_inner(_unet_place(key, per_level, attentive)): tensor for key, tensor in state.items()}


def _unet_place(key: str, per_level: int, attentive: Collection[str]) -> str:
    """The original name up to the part of a block; `attentive` are the blocks of diffusers that have attention."""
    for stem, original in _UNET_STEMS.items():
        if key.startswith(f"{stem}."):
            return original + key.removeprefix(stem)
    match = re.fullmatch(r"((?:down|up)_blocks\.(\d))\.(\w+)\.(\d)\.(.+)", key)
    assert match, key
    level, number = int(match[2]), int(match[4])
    kind, rest = match[3], match[5]
    first = per_level * level
    if key.startswith("down"):
        block, places = "input_blocks", {"downsamplers": f"{first + per_level}.0.op"}
        first += 1
    else:
        # In the level's last block, behind a residual block and attention if there is any.
        position = 2 if match[1] in attentive else 1
        block, places = "output_blocks", {"upsamplers": f"{first + per_level - 1}.{position}.conv"}
    places |= {"resnets": f"{first + number}.0", "attentions": f"{first + number}.1"}
    rest = rest.removeprefix("conv.") if kind.endswith("samplers") else rest
    return f"{block}.{places[kind]}.{rest}"


def _unet_inner(key: str) -> str:
    # Transformers have norms of the same names, which keep them.
    return key if "transformer_blocks" in key else _replaced(key, _UNET_RESNET)


def vae_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VAE's state dict under its original names, its attention as 1 x 1 convolutions."""
    return {
        _vae_key(key): tensor[..., None, None] if ".attentions." in key and tensor.ndim == 2 else tensor
        for key, tensor in state.items()
    }


def _vae_key(key: str) -> str:
    renamed = re.sub(r"down_blocks\.(\d)", r"down.\1", _replaced(key, _VAE_PARTS))
    return _VAE + re.sub(r"up_blocks\.(\d)", lambda match: f"up.{_VAE_LEVELS - 1 - int(match[1])}", renamed)


def clip_l_key(key: str) -> str:
    """The original name of a parameter of CLIP-L's text encoder."""
    return _CLIP_L + key.removeprefix("text_model.")


def clip_g_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of CLIP-G's text encoder as OpenCLIP has it: query, key and value in one tensor."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key == "text_projection.weight":
            renamed[_CLIP_G + "text_projection"] = tensor.T
        elif match := re.fullmatch(r"(.+)\.q_proj\.(weight|bias)", key):
            joined = torch.cat([state[f"{match[1]}.{part}_proj.{match[2]}"] for part in "qkv"])
            renamed[_CLIP_G + _replaced(match[1] + ".", _CLIP_G_PARTS) + f"in_proj_{match[2]}"] = joined
        elif not re.search(r"\.[kv]_proj\.", key):
            renamed[_CLIP_G + _replaced(key, _CLIP_G_PARTS)] = tensor
    return renamed


def _replaced(key: str, replacements: Mapping[str, str]) -> str:
    for part, original in replacements.items():
        key = key.replace(part, original)
    return key
