"""The checkpoints that a worker keeps: on the device side by side, or taking turns there.

Text encoders and VAE of all checkpoints stay on the device, equal tensors once. The UNets, three quarters of a
checkpoint, either do so too, or there is one UNet on the device and the weights of all wait in the host's memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import torch

from models.pipeline import CheckpointMemory
from models.pulid_lightning.deduplicate import TensorPool
from models.pulid_lightning.offload import HostTensors
from models.pulid_lightning.single_file import SingleFile
from models.pulid_lightning.text_encoder import Encode, penultimate
from models.runtime.devices import for_device
from models.runtime.load import load_part
from models.weights.installed import WeightSet

WORKING_RESERVE: Final = 8 * 1024**3
"""Bytes of device memory to leave to work in: an estimate for ten portraits of 1024 x 1024 px in one batch."""
Loaded = TypeVar("Loaded")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint's networks, on the device."""

    unet: Any
    vae: Any
    clip_l: Encode
    clip_g: Encode


class Checkpoints:
    """Checkpoints by name. Where they share one UNet, only one of them can be used at a time."""

    def __init__(self, kept: Mapping[str, Checkpoint], waiting: Mapping[str, HostTensors], resident: str) -> None:
        """Take the checkpoints; `waiting` has the weights of their one UNet, which holds those of `resident` now.

        Nothing waits if every checkpoint has a UNet of its own.
        """
        self._kept, self._waiting, self._resident = kept, waiting, resident

    @property
    def names(self) -> tuple[str, ...]:
        """What there is to choose from."""
        return tuple(self._kept)

    @property
    def unets(self) -> list[Any]:
        """The UNets on the device, each once."""
        return list({id(checkpoint.unet): checkpoint.unet for checkpoint in self._kept.values()}.values())

    def take(self, name: str) -> Checkpoint:
        """The checkpoint, ready to be used until another one is taken."""
        checkpoint = self._kept[name]
        if name in self._waiting and name != self._resident:
            # Forgotten first: a copy that breaks off leaves weights of two checkpoints behind.
            self._resident = ""
            self._waiting[name].copy_into(checkpoint.unet)
            self._resident = name
        return checkpoint


def role_of(name: str) -> str:
    """Role of a checkpoint's weights."""
    return f"sdxl_checkpoint_{name}"


def load_checkpoints(
    weights: WeightSet, names: Sequence[str], device: torch.device, memory: CheckpointMemory = "auto"
) -> Checkpoints:
    """Load the checkpoints `names`, at least one, in half precision on CUDA and in float32 elsewhere.

    `memory`: `device` keeps them side by side, `host` lets them take turns, `auto` does so if there is no room for
    more than one. Raises `WeightsError`.
    """
    pool = TensorPool()
    first, *others = names
    kept = {first: _load(weights, first, lambda file: load_checkpoint(file, device, pool))}
    unet = kept[first].unet
    further = sum(_open(weights, name).elements for name in others) * unet.dtype.itemsize
    if not others or memory == "device" or (memory == "auto" and has_room(further, _free_memory(device))):
        kept |= {name: _load(weights, name, lambda file: load_checkpoint(file, device, pool)) for name in others}
        return Checkpoints(kept, {}, first)
    _log.info("%s take turns on %s: their UNets wait in the host's memory", ", ".join(names), device)
    waiting = {first: HostTensors(unet.state_dict(), unet.dtype, device)}
    for name in others:
        kept[name], waiting[name] = _load(weights, name, lambda file: _load_waiting(file, unet, device, pool))
    return Checkpoints(kept, waiting, first)


def load_checkpoint(file: SingleFile, device: torch.device, pool: TensorPool | None = None) -> Checkpoint:
    """Load all networks of a checkpoint; what it has in common with others of the same `pool` is kept once.

    Half precision on CUDA, except for the VAE, whose activations exceed float16; float32 elsewhere. Raises
    `WeightsError`.
    """
    pool = pool or TensorPool()
    unet = pool.share("unet", for_device(file.unet(device, serving_dtype(device)), device))
    return _with_companions(unet, file, device, pool)


def has_room(needed: int, free: int | None) -> bool:
    """Whether `needed` bytes leave enough of `free` bytes to work in; None is as much as there can be."""
    return free is None or needed + WORKING_RESERVE <= free


def serving_dtype(device: torch.device) -> torch.dtype:
    """Precision of UNet and text encoders: half on CUDA, single elsewhere."""
    return torch.float16 if device.type == "cuda" else torch.float32


def _load_waiting(
    file: SingleFile, unet: Any, device: torch.device, pool: TensorPool
) -> tuple[Checkpoint, HostTensors]:
    """A checkpoint whose UNet's weights wait for their turn in `unet`."""
    waiting = HostTensors(file.unet_tensors(like=unet), unet.dtype, device)
    return _with_companions(unet, file, device, pool), waiting


def _with_companions(unet: Any, file: SingleFile, device: torch.device, pool: TensorPool) -> Checkpoint:
    half = serving_dtype(device)
    return Checkpoint(
        unet=unet,
        vae=pool.share("vae", for_device(file.vae(device, _wide_half() if half == torch.float16 else half), device)),
        clip_l=penultimate(pool.share("clip_l", file.clip_l(device, half))),
        clip_g=penultimate(pool.share("clip_g", file.clip_g(device, half))),
    )


def _load(weights: WeightSet, name: str, load: Callable[[SingleFile], Loaded]) -> Loaded:
    role = role_of(name)
    return load_part(role, lambda _path: load(_open(weights, name)), weights[role])


def _open(weights: WeightSet, name: str) -> SingleFile:
    return SingleFile(weights[role_of(name)], weights.folder("sdxl_config"))


def _free_memory(device: torch.device) -> int | None:
    """Bytes of the device that nobody uses; None on the CPU, where weights that wait take as much as others."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]


def _wide_half() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
