"""SDXL checkpoints in one file: original names mapped to the networks' own before anything is read.

Source: PuLID specification section 7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

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
from models.runtime.load import empty, fill
from models.runtime.state_dicts import StateDict, chosen, read_config, read_state_dict, size_in, under
from models.runtime.tensor_file import read
from models.weights.file_errors import file_errors
from models.weights.folder import Folder
from models.weights.objective import require_noise_prediction

SDXL: Final = Path(__file__).with_name("configs") / "sdxl"
"""The sizes of SDXL's networks, in diffusers' layout."""
_INDEX: Final = "model_index.json"
_SIZES: Final = "config.json"
_CLIP_L: Final = "conditioner.embedders.0.transformer.text_model."
_CLIP_G: Final = "conditioner.embedders.1.model."
_UNET: Final = "model.diffusion_model."
_VAE: Final = "first_stage_model."
Part = Literal["unet", "vae", "clip_l", "clip_g"]
_PREFIXES: Final[Mapping[Part, str]] = {"unet": _UNET, "vae": _VAE, "clip_l": _CLIP_L, "clip_g": _CLIP_G}
_PARTS: Final = {_UNET: "UNet", _VAE: "VAE", _CLIP_L: "first text encoder", _CLIP_G: "second text encoder"}
_UNSUPPORTED_FORMATS: Final = {
    "a LoRA": re.compile(r"lora_|.*[._]lora[._]|.*\.(hada_w1_a|lokr_w1)"),
    "a checkpoint of Stable Diffusion 1": re.compile(r"cond_stage_model\.transformer\."),
    "a checkpoint of Stable Diffusion 2": re.compile(r"cond_stage_model\.model\."),
    "a UNet alone": re.compile(r"(model\.diffusion_model\.)?(input_blocks|down_blocks|time_embed)"),
}
"""What is taken for a checkpoint now and then, with a key by which it is known; the first that fits."""


class SingleFile:
    """A checkpoint's file; every call builds a network of its own.

    Sizes come from the folder `config` if it names them, else they are SDXL's own; either way nothing is fetched.
    """

    def __init__(self, path: Path, config: Folder) -> None:
        """Read the file's header; raises `WeightFileError` if it cannot be read or is no SDXL checkpoint."""
        self._path, self._config = path, config
        with file_errors(path):
            require_noise_prediction(path)
            self._state = read_state_dict(path)
            _require_checkpoint(self._state)

    def size_of(self, part: Part, dtype: torch.dtype) -> int:
        """Bytes of one network in `dtype`."""
        return size_in(self._state, dtype, _PREFIXES[part])

    def seems_to_share(self, part: Part, other: SingleFile) -> bool:
        """Whether one network is the same in both files, going by its norms and biases, which are quickly read."""
        ours, theirs = (
            {key: tensor for key, tensor in under(file._state, _PREFIXES[part]).items() if tensor.ndim == 1}
            for file in (self, other)
        )
        with file_errors(self._path, other._path):
            return ours.keys() == theirs.keys() and all(
                tensor.shape == theirs[key].shape and torch.equal(read(tensor), read(theirs[key]))
                for key, tensor in ours.items()
            )

    def unet(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The denoising network; raises `WeightFileError`, as all of these do."""

        def build(sizes: dict[str, Any]) -> tuple[Any, StateDict]:
            network = empty(lambda: UNet2DConditionModel.from_config(sizes))
            return network, convert_ldm_unet_checkpoint(self._state, sizes)

        return self._network("unet", build, device, dtype)

    def unet_tensors(self, like: nn.Module) -> dict[str, Tensor]:
        """What `unet` would be filled with, not read yet, under the names and in the order of the UNet `like`."""
        with file_errors(self._path):
            sizes = component_sizes(self._config, "unet")
            return chosen(convert_ldm_unet_checkpoint(self._state, sizes), like.state_dict())

    def vae(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The autoencoder."""

        def build(sizes: dict[str, Any]) -> tuple[Any, StateDict]:
            network = empty(lambda: AutoencoderKL.from_config(sizes))
            return network, convert_ldm_vae_checkpoint(self._state, sizes)

        return self._network("vae", build, device, dtype)

    def clip_l(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The first text encoder."""

        def build(sizes: dict[str, Any]) -> tuple[Any, StateDict]:
            network = empty(lambda: CLIPTextModel(CLIPTextConfig.from_dict(sizes)))
            return network, under(self._state, _CLIP_L)

        return self._network("text_encoder", build, device, dtype)

    def clip_g(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The second text encoder, with its projection."""

        def build(sizes: dict[str, Any]) -> tuple[Any, StateDict]:
            network = empty(lambda: CLIPTextModelWithProjection(CLIPTextConfig.from_dict(sizes)))
            return network, convert_open_clip_checkpoint(network, self._state, _CLIP_G)

        return self._network("text_encoder_2", build, device, dtype)

    def _network(
        self,
        component: str,
        build: Callable[[dict[str, Any]], tuple[Any, StateDict]],
        device: torch.device,
        dtype: torch.dtype,
    ) -> Any:
        """What `build` makes of the component's sizes, filled with the state that it finds."""
        sizes = component_sizes(self._config, component)
        with file_errors(self._path, *recorded_sizes(self._config, component)):
            network, state = build(sizes)
            fill(network, chosen(state, network.state_dict()), device, dtype)
        return network


def component_sizes(config: Folder, component: str) -> dict[str, Any]:
    """Sizes of one of SDXL's networks; raises `WeightFileError`."""
    (path,) = recorded_sizes(config, component) or (SDXL / component / _SIZES,)
    return read_config(path)


def recorded_sizes(config: Folder, component: str) -> tuple[Path, ...]:
    """The file of the folder `config` that has the sizes; none if they are the program's own."""
    return (config.file(f"{component}/{_SIZES}"),) if _INDEX in config else ()


def _require_checkpoint(state: StateDict) -> None:
    """Raise `WeightsError`, with what the file seems to be, unless it has a part for each of SDXL's networks."""
    lacking = [part for prefix, part in _PARTS.items() if not any(key.startswith(prefix) for key in state)]
    if not lacking:
        return
    seems = next(
        (f"; it seems to be {kind}" for kind, keys in _UNSUPPORTED_FORMATS.items() if any(map(keys.match, state))), ""
    )
    raise WeightsError(f"it is no SDXL checkpoint: it has no {' and no '.join(lacking)}{seems}.")
