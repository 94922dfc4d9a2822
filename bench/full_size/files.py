"""Weight files with random values, in the formats and at the sizes of the published ones, written tensor by tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from bench.full_size import networks
from bench.full_size.stored import Content, Stored, write
from bench.full_size.values import RandomValues
from models.demo.original_keys import clip_g_state, clip_l_key, unet_state, vae_state
from models.pulid_lightning.single_file import SDXL

_WEIGHTS: Final = "diffusion_pytorch_model.safetensors"
_META: Final = torch.device("meta")


def write_sdxl(path: Path, config: Path, reduced: bool) -> None:
    """A checkpoint in one file, 6.9 GB, and the sizes of its networks in diffusers' layout."""
    parts = networks.pulid_parts(_META, reduced)
    _write_sizes(config / "unet", parts.unet)
    _write_sizes(config / "vae", parts.vae)
    _write_sizes(config / "text_encoder", parts.clip_l)
    _write_sizes(config / "text_encoder_2", parts.clip_g)
    shutil.copy(SDXL / "model_index.json", config)
    state: dict[str, Tensor] = unet_state(parts.unet.state_dict())
    state |= vae_state(parts.vae.state_dict())
    state |= {clip_l_key(key): tensor for key, tensor in parts.clip_l.state_dict().items()}
    _write(path, state | clip_g_state(parts.clip_g.state_dict()))


def write_sd15(folder: Path, reduced: bool) -> None:
    """UNet and VAE with their configurations, in diffusers' layout; 1.9 GB."""
    parts = networks.ic_light_parts(_META, reduced)
    unet = parts.unet.state_dict()
    unet["conv_in.weight"] = unet["conv_in.weight"][:, :4]
    _write_sizes(folder / "unet", parts.unet, in_channels=4)
    _write(folder / "unet" / _WEIGHTS, unet)
    _write_sizes(folder / "vae", parts.vae)
    _write(folder / "vae" / _WEIGHTS, parts.vae.state_dict())


def write_offset(path: Path, reduced: bool) -> None:
    """IC-Light's offsets of a UNet with eight inputs; 1.7 GB."""
    _write(path, networks.ic_light_parts(_META, reduced).unet.state_dict())


def _write_sizes(folder: Path, network: Any, **changes: object) -> None:
    """The configuration of a network of diffusers or transformers, as they read it."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = network.config.to_dict() if hasattr(network.config, "to_dict") else dict(network.config)
    (folder / "config.json").write_text(json.dumps({**sizes, **changes}, default=str))


def _write(path: Path, state: Mapping[str, Tensor]) -> None:
    """A .safetensors file of the names and shapes of `state`, in float16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: Stored("F16", tuple(tensor.shape)) for name, tensor in state.items()}
    write(path, Content(tensors, {"format": "pt"}), RandomValues())
