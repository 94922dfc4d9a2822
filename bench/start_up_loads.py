"""What `bench.start_up` compares: loads that return all tensors of the networks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn

from models.ic_light.networks import FOREGROUND_CHANNELS, load_unet, load_vae
from models.pulid_lightning.checkpoints import Checkpoint, OffloadedWeights, load_checkpoint
from models.pulid_lightning.single_file import SingleFile, component_sizes
from models.runtime.load import empty
from models.runtime.precision import Precision
from models.weights.folder import Folder
from models.weights.hashes import HashCache
from models.weights.installed import WeightSet

_CPU: Final = torch.device("cpu")
_SERVED: Final = Precision(torch.bfloat16, torch.bfloat16)
_FILES: Final = torch.float16


def ours_sdxl(folder: Path) -> list[Tensor]:
    """A checkpoint as it is served on a CPU."""
    checkpoint: Checkpoint = load_checkpoint(_single_file(folder), _CPU, precision=_SERVED)
    return _tensors((checkpoint.unet, checkpoint.vae, checkpoint.clip_l, checkpoint.clip_g))


def diffusers_sdxl(folder: Path) -> list[Tensor]:
    """The same file by diffusers, in its own type."""
    pipeline: Any = StableDiffusionXLPipeline.from_single_file(
        str(folder / "sdxl.safetensors"),
        config=str(folder / "config"),
        torch_dtype=_FILES,
        local_files_only=True,
        **dict.fromkeys(("tokenizer", "tokenizer_2", "feature_extractor", "image_encoder")),
        scheduler=EulerDiscreteScheduler(),
    )
    return _tensors(it for it in pipeline.components.values() if isinstance(it, nn.Module))


def ours_hashed_sdxl(folder: Path) -> list[Tensor]:
    """As `ours_sdxl`, with a record whose hashes are to be verified."""
    weights = WeightSet.open(folder, "it", defer_hashes=True)
    with weights.verifying(HashCache()):
        return ours_sdxl(folder)


def ours_offloaded_sdxl(folder: Path) -> list[Tensor]:
    """The UNet of a further checkpoint in a block of host memory."""
    like = empty(lambda: UNet2DConditionModel.from_config(component_sizes(Folder.as_found(folder / "config"), "unet")))
    offloaded = OffloadedWeights(_single_file(folder).unet_tensors(like), _SERVED.half, _CPU)
    return [offloaded._block]


def ours_ic_light(folder: Path) -> list[Tensor]:
    """UNet with offsets, and VAE, as they are served on a CPU."""
    base = Folder.as_found(folder / "sd15")
    unet = load_unet(base.inner("unet"), folder / "offset.safetensors", FOREGROUND_CHANNELS, _SERVED.half, _CPU)
    return _tensors((unet, load_vae(base.inner("vae"), _CPU, _SERVED.wide_half)))


def diffusers_ic_light(folder: Path) -> list[Tensor]:
    """The same by diffusers in the files' type, offsets added as the original does."""
    unet: Any = UNet2DConditionModel.from_pretrained(folder / "sd15" / "unet", torch_dtype=_FILES)
    vae: Any = AutoencoderKL.from_pretrained(folder / "sd15" / "vae", torch_dtype=_FILES)
    offset, narrow = load_file(folder / "offset.safetensors"), unet.conv_in
    unet.conv_in = nn.Conv2d(FOREGROUND_CHANNELS, narrow.out_channels, 3, padding=1, dtype=_FILES)
    with torch.no_grad():
        unet.conv_in.weight.zero_()[:, :4] = narrow.weight
        unet.conv_in.bias.copy_(narrow.bias)
        unet.load_state_dict({key: tensor + offset[key] for key, tensor in unet.state_dict().items()})
    return _tensors((unet, vae))


def _single_file(folder: Path) -> SingleFile:
    return SingleFile(folder / "sdxl.safetensors", Folder.as_found(folder / "config"))


def _tensors(networks: Iterable[Any]) -> list[Tensor]:
    return [tensor.detach() for network in networks for tensor in network.parameters()]
