"""Weight files with random values, in the formats and at the sizes of the published ones, written tensor by tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from bench.full_size import networks
from models.demo.original_keys import clip_g_state, clip_l_key, unet_key, vae_state
from models.pulid_lightning.single_file import SDXL

_POOL: Final = 1 << 24
_SCALE: Final = 0.02
_STRIDE: Final = 7919
"""Tensors begin at different places of the pool: two of a shape must not be equal."""
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
    state: dict[str, Tensor] = {unet_key(key): tensor for key, tensor in parts.unet.state_dict().items()}
    state |= vae_state(parts.vae.state_dict())
    state |= {clip_l_key(key): tensor for key, tensor in parts.clip_l.state_dict().items()}
    write(path, state | clip_g_state(parts.clip_g.state_dict()))


def write_sd15(folder: Path, reduced: bool) -> None:
    """UNet and VAE with their configurations, in diffusers' layout; 1.9 GB."""
    parts = networks.ic_light_parts(_META, reduced)
    unet = parts.unet.state_dict()
    unet["conv_in.weight"] = unet["conv_in.weight"][:, :4]
    _write_sizes(folder / "unet", parts.unet, in_channels=4)
    write(folder / "unet" / _WEIGHTS, unet)
    _write_sizes(folder / "vae", parts.vae)
    write(folder / "vae" / _WEIGHTS, parts.vae.state_dict())


def write_offset(path: Path, reduced: bool) -> None:
    """IC-Light's offsets of a UNet with eight inputs; 1.7 GB."""
    write(path, networks.ic_light_parts(_META, reduced).unet.state_dict())


def _write_sizes(folder: Path, network: Any, **changes: object) -> None:
    """The configuration of a network of diffusers or transformers, as they read it."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = network.config.to_dict() if hasattr(network.config, "to_dict") else dict(network.config)
    (folder / "config.json").write_text(json.dumps({**sizes, **changes}, default=str))


def write(path: Path, state: Mapping[str, Tensor]) -> None:
    """A .safetensors file of the names and shapes of `state`, in float16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(state):
        begin, end = end, end + 2 * state[name].numel()
        header[name] = {"dtype": "F16", "shape": list(state[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in _values(state):
            file.write(values.numpy().data)


def _values(state: Mapping[str, Tensor]) -> Iterator[Tensor]:
    pool = (_SCALE * torch.randn(_POOL, generator=torch.Generator().manual_seed(7), device="cpu")).half()
    for number, name in enumerate(sorted(state)):
        left, begin = state[name].numel(), number * _STRIDE % _POOL
        while left:
            part = pool[begin : begin + left]
            yield part
            left, begin = left - len(part), 0
