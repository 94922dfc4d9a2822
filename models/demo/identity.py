"""Demo face parser, vision tower and PuLID adapter: the real files' keys with narrow networks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.demo.random_weights import random_state, random_tensor
from models.demo.sdxl import CONTEXT_WIDTH, cross_attention_widths
from models.pulid_lightning.identity.bisenet import BiSeNet
from models.pulid_lightning.identity.encoder import IDEncoder
from models.pulid_lightning.identity.eva_clip import build_tower

_ARCFACE: Final = 512
_CLASSES: Final = 64
_WIDTH: Final = 64
_MLP_WIDTH: Final = 170
_DEPTH: Final = 24
_PATCH: Final = 14
_GRID: Final = 24


def write_face_parser(file: Path, seed: int) -> None:
    """Write a BiSeNet under the keys of its public checkpoint; its labels follow texture, not faces."""
    network = BiSeNet(backbone=[8, 8, 16, 16, 16], context=16, fused=16, gate=8, head=16, classes=19)
    save_file(random_state(network.state_dict(), seed), file)


def write_eva_clip(file: Path, seed: int) -> None:
    """Write a vision tower in the converted layout, `visual.trunk.*`, in float16."""
    with torch.device("meta"):
        tower = build_tower(_CLASSES, _WIDTH, _DEPTH, 1, _MLP_WIDTH, _PATCH, _GRID)
    state = {key: value for key, value in tower.state_dict().items() if not key.startswith("rope.")}
    _save({f"visual.trunk.{key}": value for key, value in random_state(state, seed).items()}, file)


def write_adapter(file: Path, seed: int) -> None:
    """Write a PuLID version 1 adapter for the demo UNet, `image_proj.*` and `ip_adapter.*`, in float16."""
    with torch.device("meta"):
        encoder = IDEncoder(_ARCFACE + _CLASSES, (_WIDTH, _WIDTH), _WIDTH, CONTEXT_WIDTH)
    state = {f"image_proj.{key}": value for key, value in random_state(encoder.state_dict(), seed).items()}
    for layer, width in cross_attention_widths().items():
        for part in ("to_k_ip", "to_v_ip"):
            key = f"ip_adapter.{layer}.{part}.weight"
            state[key] = random_tensor(key, (width, CONTEXT_WIDTH), seed)
    _save(state, file)


def _save(state: dict[str, Tensor], file: Path) -> None:
    save_file({key: value.half().contiguous() for key, value in state.items()}, file)
