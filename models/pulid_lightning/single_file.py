"""SDXL checkpoints in one file: original names mapped to the networks' own, without a copy in memory.

Source: PuLID specification section 7.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from models.errors import WeightsError
from models.loading import empty, fill
from models.pulid_lightning.state_dicts import StateDict, read_state_dict, under

SDXL: Final = Path(__file__).with_name("configs") / "sdxl"
"""The sizes of SDXL's networks, in diffusers' layout."""
_INDEX: Final = "model_index.json"
_CLIP_L: Final = "conditioner.embedders.0.transformer.text_model."
_CLIP_G: Final = "conditioner.embedders.1.model."


class SingleFile:
    """A checkpoint's file; every call builds a network of its own.

    Sizes come from the folder `config` if it names them, else they are SDXL's own; either way nothing is fetched.
    """

    def __init__(self, path: Path, config: Path) -> None:
        """Map the file into memory; raises `WeightsError` if that cannot be done."""
        self._path, self._config = path, config if (config / _INDEX).is_file() else SDXL
        self._state = read_state_dict(path)

    @property
    def elements(self) -> int:
        """How many numbers all of its tensors hold together."""
        return sum(tensor.numel() for tensor in self._state.values())

    def unet(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The denoising network; raises `WeightsError`, as all of these do."""
        sizes = self._sizes("unet")
        network = empty(lambda: UNet2DConditionModel.from_config(sizes))
        return self._filled(network, convert_ldm_unet_checkpoint(self._state, sizes), device, dtype)

    def unet_tensors(self, like: nn.Module) -> dict[str, Tensor]:
        """What `unet` would be filled with, still in the file, under the names and in the order of the UNet `like`."""
        tensors = self._chosen(like, convert_ldm_unet_checkpoint(self._state, self._sizes("unet")))
        for name, tensor in like.state_dict().items():
            if tensors[name].shape != tensor.shape:
                raise WeightsError(f"The checkpoint {self._path} has a UNet of another size: {name}.")
        return tensors

    def vae(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The autoencoder."""
        sizes = self._sizes("vae")
        network = empty(lambda: AutoencoderKL.from_config(sizes))
        return self._filled(network, convert_ldm_vae_checkpoint(self._state, sizes), device, dtype)

    def clip_l(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The first text encoder."""
        sizes = CLIPTextConfig.from_dict(self._sizes("text_encoder"))
        return self._filled(empty(lambda: CLIPTextModel(sizes)), under(self._state, _CLIP_L), device, dtype)

    def clip_g(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The second text encoder, with its projection."""
        sizes = CLIPTextConfig.from_dict(self._sizes("text_encoder_2"))
        network = empty(lambda: CLIPTextModelWithProjection(sizes))
        return self._filled(network, convert_open_clip_checkpoint(network, self._state, _CLIP_G), device, dtype)

    def _sizes(self, component: str) -> dict[str, Any]:
        path = self._config / component / "config.json"
        try:
            sizes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"The configuration {path} cannot be read: {error}") from error
        return sizes

    def _filled(self, network: nn.Module, state: StateDict, device: torch.device, dtype: torch.dtype) -> nn.Module:
        fill(network, self._chosen(network, state), device, dtype, f"the checkpoint {self._path}")
        return network

    def _chosen(self, network: nn.Module, state: StateDict) -> dict[str, Tensor]:
        """The tensors that `network` has; files hold more, such as tables of positions."""
        names = network.state_dict().keys()
        if missing := [name for name in names if name not in state]:
            raise WeightsError(f"The checkpoint {self._path} lacks tensors: {missing[0]} and {len(missing) - 1} more.")
        return {name: state[name] for name in names}
