"""The UNets that see more than noise: a base UNet, widened and offset (IC-Light specification sections 7 and 17)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.errors import WeightsError
from models.execution.devices import for_device
from models.unet.conditions import check_supported

FOREGROUND_CHANNELS: Final = 8
"""Input channels with a foreground: 4 of noisy latents, 4 of the foreground's."""
BACKGROUND_CHANNELS: Final = 12
"""Input channels with a background besides: 4 more, of its latents."""
_INPUT: Final = "conv_in.weight"
_WEIGHTS: Final = "diffusion_pytorch_model.safetensors"


def load_unet(base: Path, offset: Path, channels: int, dtype: torch.dtype, device: torch.device) -> Any:
    """Build the merged UNet of `channels` inputs on `device` from a base folder (config.json, weights) and an offset.

    Raises `WeightsError` if a weight is missing or has another shape, or the configuration is of another kind of UNet.
    """
    unet = empty_unet(json.loads((base / "config.json").read_text()), channels)
    try:
        with safe_open(base / _WEIGHTS, "pt") as base_file, safe_open(offset, "pt") as offset_file:
            merged = {
                key: merge(key, base_file.get_tensor(key), offset_file.get_tensor(key), like).to(device, dtype)
                for key, like in unet.state_dict().items()
            }
    except SafetensorError as error:
        raise WeightsError(f"{base} and {offset} do not merge into one UNet: {error}") from error
    # Assigned, not copied: the network was built without storage.
    unet.load_state_dict(merged, assign=True)
    check_supported(unet)
    return for_device(unet.eval(), device)


def empty_unet(config: Mapping[str, Any], channels: int) -> Any:
    """Build the UNet that `config` describes, with `channels` inputs, on the meta device: shapes without storage."""
    with torch.device("meta"):
        return UNet2DConditionModel.from_config({**config, "in_channels": channels})


def merge(key: str, base: Tensor, offset: Tensor, like: Tensor) -> Tensor:
    """Add the offset of weight `key` to its base, in float32: in half precision the difference drowns in rounding.

    The input convolution's base lacks the channels of what is seen besides noise: they start at zero. Raises
    `WeightsError` if either is not of the shape of `like`.
    """
    if key == _INPUT and base.shape[1] < like.shape[1]:
        base = F.pad(base, (0, 0, 0, 0, 0, like.shape[1] - base.shape[1]))
    if not base.shape == offset.shape == like.shape:
        raise WeightsError(f"{key}: {list(base.shape)} and {list(offset.shape)} where {list(like.shape)} is due.")
    return base.float() + offset.float()
