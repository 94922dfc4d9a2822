"""The UNets that see more than noise: a base UNet, widened and offset (IC-Light specification sections 7 and 17)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from models.errors import WeightsError
from models.runtime.load import for_device
from models.runtime.state_dicts import StateDict, check_numbers, read_config, read_state_dict, require
from models.runtime.unet import check_supported
from models.weights.file_errors import file_errors
from models.weights.folder import Folder
from models.weights.objective import require_noise_prediction

FOREGROUND_CHANNELS: Final = 8
"""Input channels with a foreground: 4 of noisy latents, 4 of the foreground's."""
BACKGROUND_CHANNELS: Final = 12
"""Input channels with a background besides: 4 more, of its latents."""
_INPUT: Final = "conv_in.weight"
_WEIGHTS: Final = "diffusion_pytorch_model.safetensors"


def load_unet(base: Folder, offset: Path, channels: int, dtype: torch.dtype, device: torch.device) -> Any:
    """Build the merged UNet of `channels` inputs on `device` from a base folder (config.json, weights) and an offset.

    Raises `WeightFileError` if a weight is missing or has another shape, if the configuration is of another kind of
    UNet, or if it is marked as one that does not predict noise.
    """
    config, weights = base.file("config.json"), base.file(_WEIGHTS)
    with file_errors(config):
        unet = empty_unet(read_config(config), channels)
        check_supported(unet)
    like = unet.state_dict()
    base_state, offset_state = (_read_unet(path, config, like) for path in (weights, offset))
    with file_errors(config, weights, offset):
        merged = {
            key: merge(key, base_state[key], offset_state[key], tensor).to(device, dtype)
            for key, tensor in like.items()
        }
        # Assigned, not copied: the network was built without storage.
        unet.load_state_dict(merged, assign=True)
    return for_device(unet.eval(), device)


def _read_unet(path: Path, config: Path, like: StateDict) -> StateDict:
    """A file's tensors, if it has those of the UNet that the file `config` describes."""
    require_noise_prediction(path)
    state = read_state_dict(path)
    with file_errors(path, config):
        require(state, like)
        check_numbers({key: state[key] for key in like}, like)
        return state


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
