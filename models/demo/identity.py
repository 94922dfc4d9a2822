"""Demo face parser, vision tower and PuLID adapter: the real files' keys with weights that pass on `face_code`.

Nothing in them is trained but the adapter's projections into the UNet. The parser calls all of a crop skin. The
tower's tokens are the brightness of their patch's quarters and say where the patch is; its blocks add nothing. The
adapter's encoder picks from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor

from models.demo.face_code import CHROMA, CONTEXT_WIDTH, HALF_PATCH, HEADS, LUMA, LUMA_AT, TOKENS, TOWER_SIDE, tokens
from models.demo.pinned_mlp import PinnedMlp
from models.demo.sdxl import cross_attention_widths
from models.demo.trained_files import PORTRAIT_ADAPTER, Trained
from models.pulid_lightning.identity.bisenet import BiSeNet
from models.pulid_lightning.identity.encoder import IDEncoder
from models.pulid_lightning.identity.eva_clip import build_tower
from models.pulid_lightning.identity.face import EMBEDDING
from models.runtime.state_dicts import check_alike
from models.weights.file_errors import file_errors

_SKIN: Final = 1
"""The parser's class of every pixel."""
_CLASSES: Final = 64
_WIDTH: Final = 320
"""Of the tower: 256 numbers of a tap, and what its perceptrons need beside them; heads are 64 wide."""
_HEADS: Final = 5
_MLP_WIDTH: Final = 8
_DEPTH: Final = 24
_PATCH: Final = 2 * HALF_PATCH
_GRID: Final = TOWER_SIDE // _PATCH
_QUARTERS: Final = 4
"""The first channels of a patch's token: the brightness of its quarters, rows first."""
_PRESENCE: Final = _QUARTERS
"""Channel that is 1 in every patch; in the class token, and without a face, all channels are 0."""
_ROW: Final = _PRESENCE + 1
"""First of the channels of which the one for the patch's row is 1."""
_COLUMN: Final = _ROW + _GRID
"""The same for its column."""
_CHROMA_NUMBERS: Final = 2 * CHROMA[0] * CHROMA[1]
_BODY_WIDTH: Final = 352
_SLOPE: Final = 0.01
"""Of the encoder's leaky rectifiers."""
_MATCH: Final = 1.25
"""What a unit's input gains by the right row, and again by the right column."""
_OFFSET: Final = _MATCH / 2
"""Lies between the largest brightness, 0.5, and `_MATCH` without it."""


def write_face_parser(file: Path) -> None:
    """Write a BiSeNet under the keys of its public checkpoint; every pixel is skin."""
    network = BiSeNet(backbone=[1] * 5, context=1, fused=1, gate=1, head=1, classes=19)
    state = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    state |= {key: torch.ones_like(value) for key, value in state.items() if key.endswith("running_var")}
    state["conv_out.conv.bn.bias"][:] = 1
    state["conv_out.conv_out.weight"][_SKIN] = 1
    save_file(state, file)


def write_eva_clip(file: Path) -> None:
    """Write a vision tower in the converted layout, `visual.trunk.*`, in float16."""
    with torch.device("meta"):
        tower = build_tower(_CLASSES, _WIDTH, _DEPTH, _HEADS, _MLP_WIDTH, _PATCH, _GRID)
    shapes = {key: value.shape for key, value in tower.state_dict().items() if not key.startswith("rope.")}
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    for key in state:
        if key.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
            state[key] += 1
    # Each colour's normalisation undone, and the mean of all three, which are equal.
    per_pixel = torch.tensor(OPENAI_CLIP_STD) / len(OPENAI_CLIP_STD) / HALF_PATCH**2
    for quarter in range(_QUARTERS):
        down, right = (half * HALF_PATCH for half in divmod(quarter, 2))
        square = state["patch_embed.proj.weight"][quarter, :, down : down + HALF_PATCH, right : right + HALF_PATCH]
        square += per_pixel.view(-1, 1, 1)
    state["patch_embed.proj.bias"][:_QUARTERS] = sum(OPENAI_CLIP_MEAN) / len(OPENAI_CLIP_MEAN) - 0.5
    places = state["pos_embed"][0, 1:].view(_GRID, _GRID, _WIDTH)
    places[..., _PRESENCE] = 1
    for line in range(_GRID):
        places[line, :, _ROW + line] = places[:, line, _COLUMN + line] = 1
    # It is divided by its length.
    state["head.bias"] += 1
    _save({f"visual.trunk.{key}": value for key, value in state.items()}, file)


def projections() -> dict[str, Tensor]:
    """The demo UNet's projections of ID tokens under an adapter's keys, `ip_adapter.*`, as shapes without values."""
    return {
        f"ip_adapter.{layer}.{part}.weight": torch.empty(width, CONTEXT_WIDTH, device="meta")
        for layer, width in cross_attention_widths().items()
        for part in ("to_k_ip", "to_v_ip")
    }


def write_adapter(file: Path, trained: Trained) -> None:
    """Write a PuLID version 1 adapter for the demo UNet, `image_proj.*` and `ip_adapter.*`, in float16.

    Raises `WeightsError` if the trained projections are not those of the demo UNet.
    """
    with torch.device("meta"):
        encoder = IDEncoder(EMBEDDING + _CLASSES, (_BODY_WIDTH, _BODY_WIDTH), _WIDTH, CONTEXT_WIDTH)
    parts = {"body": _body()}
    for tap in range(TOKENS):
        parts |= {f"mapping_{tap}": _class_token_mapping(tap), f"mapping_patch_{tap}": _patch_mapping(tap)}
    state = {f"image_proj.{part}.{key}": value for part, mlp in parts.items() for key, value in mlp.state().items()}
    assert state.keys() == {f"image_proj.{key}" for key in encoder.state_dict()}
    projected = load_file(trained.verified(PORTRAIT_ADAPTER))
    with file_errors(trained.folder / PORTRAIT_ADAPTER):
        check_alike(projected, projections())
    _save(state | projected, file)


def _body() -> PinnedMlp:
    """The embedding's colour differences to their places in the first five tokens."""
    mlp = PinnedMlp(EMBEDDING + _CLASSES, _BODY_WIDTH, TOKENS * CONTEXT_WIDTH)
    # 1 is added to each, so that no unit is negative, and taken off at the end.
    first, second = (weight[:_CHROMA_NUMBERS] for weight in (mlp.first, mlp.second))
    first[:, :_CHROMA_NUMBERS] = second[:, :_CHROMA_NUMBERS] = torch.eye(_CHROMA_NUMBERS)
    mlp.first_bias[:_CHROMA_NUMBERS] = 1
    units = torch.eye(_CHROMA_NUMBERS).view(-1, 2, *CHROMA)
    constants = tokens(torch.zeros(1, *LUMA), torch.zeros(1, 2, *CHROMA))[0, :TOKENS].flatten()
    found = tokens(torch.zeros(len(units), *LUMA), units)[:, :TOKENS].flatten(1)
    mlp.last[:, :_CHROMA_NUMBERS] = (found - constants).T
    mlp.last_bias[:] = constants - mlp.last.sum(1)
    return mlp


def _class_token_mapping(tap: int) -> PinnedMlp:
    """The constants of the tap's token, whatever the class token is."""
    mlp = PinnedMlp(_WIDTH, _WIDTH, CONTEXT_WIDTH)
    mlp.last_bias[:] = tokens(torch.zeros(1, *LUMA), torch.zeros(1, 2, *CHROMA))[0, TOKENS + tap]
    return mlp


def _patch_mapping(tap: int) -> PinnedMlp:
    """The brightness of the tap's half patches, each from its own patch alone.

    A unit's input is positive in its own patch and negative in all others. Of those the two leaky rectifiers leave
    `leak` of the input, which, summed over all patches, is linear in the mean brightness, and so taken off.
    """
    mlp = PinnedMlp(_WIDTH, _WIDTH, CONTEXT_WIDTH)
    per_tap, patches, leak = HEADS * LUMA[1], _GRID**2, _SLOPE**2
    mlp.first[:per_tap, _PRESENCE] = _OFFSET - 2 * _MATCH
    for unit in range(per_tap):
        row, column = divmod(unit, LUMA[1])
        (row, down), (column, right) = divmod(LUMA_AT[0] + HEADS * tap + row, 2), divmod(LUMA_AT[1] + column, 2)
        quarter = 2 * down + right
        mlp.first[unit, [_ROW + row, _COLUMN + column]] = _MATCH
        mlp.first[unit, quarter] = 1
        mlp.last[unit, per_tap + quarter] = -leak
    # Quarters of all patches, with 1 added that keeps them positive, and the presence, which takes it off again.
    beside = _QUARTERS + 1
    mlp.first[per_tap : per_tap + beside, :beside] = torch.eye(beside)
    mlp.first[per_tap : per_tap + _QUARTERS, _PRESENCE] = 1
    mlp.second[: per_tap + beside, : per_tap + beside] = torch.eye(per_tap + beside)
    elsewhere = leak * (2 * _MATCH / _GRID + _OFFSET - 2 * _MATCH)
    mlp.last[:per_tap, :per_tap] = torch.eye(per_tap)
    mlp.last[:per_tap, per_tap + _PRESENCE] = leak - elsewhere - (1 - leak) * _OFFSET / patches
    # The patches' mean is taken of what the perceptron gives.
    mlp.last *= patches / (1 - leak)
    return mlp


def _save(state: dict[str, Tensor], file: Path) -> None:
    save_file({key: value.half().contiguous() for key, value in state.items()}, file)
