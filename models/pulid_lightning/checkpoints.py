"""The loaded checkpoints: all on the device, or with their UNets offloaded to host memory.

Text encoders and VAEs of all checkpoints stay on the device, deduplicated. The UNets, three quarters of a checkpoint,
either stay there too, or one UNet is on the device and the weights of all are offloaded to host memory.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from models.model import MemoryNeed
from models.pulid_lightning.options import CheckpointMemory
from models.pulid_lightning.single_file import Part, SingleFile
from models.runtime.fp8 import quantise
from models.runtime.load import copy_into, load_part
from models.runtime.precision import Precision, precision_of
from models.runtime.unet import unet_for_device
from models.runtime.vae_attention import vae_for_device
from models.weights.installed import WeightSet

WORKING_RESERVE: Final = 8 * 1024**3
"""Bytes of device memory to keep free for activations: an estimate for a batch of ten images of 1024 x 1024 px."""
_BESIDE_UNET: Final[tuple[Part, ...]] = ("clip_l", "clip_g", "vae")
Loaded = TypeVar("Loaded")
_log = logging.getLogger(__name__)
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint's networks, on the device."""

    unet: Any
    vae: Any
    clip_l: Any
    clip_g: Any


class Checkpoints:
    """Checkpoints by name. With offloaded UNets only one of them, the active one, can be used at a time."""

    def __init__(self, kept: Mapping[str, Checkpoint], offloaded: Mapping[str, OffloadedWeights], active: str) -> None:
        """`offloaded`: UNet weights by name, empty if each checkpoint has its own UNet; `active`: its name now."""
        self._kept, self._offloaded, self._active = kept, offloaded, active

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the loaded checkpoints."""
        return tuple(self._kept)

    @property
    def unets(self) -> list[Any]:
        """The distinct UNets on the device."""
        return list({id(checkpoint.unet): checkpoint.unet for checkpoint in self._kept.values()}.values())

    def activate(self, name: str) -> Checkpoint:
        """Make `name` the active checkpoint and return it; it is valid until another one is activated."""
        checkpoint = self._kept[name]
        if name in self._offloaded and name != self._active:
            # Reset first: a copy that fails leaves a mix of two checkpoints' weights.
            self._active = ""
            self._offloaded[name].load_into(checkpoint.unet)
            self._active = name
        return checkpoint


def role_of(name: str) -> str:
    """The weights role of checkpoint `name`."""
    return f"sdxl_checkpoint_{name}"


def load_checkpoints(
    weights: WeightSet,
    names: Sequence[str],
    device: torch.device,
    memory: CheckpointMemory = "auto",
    fp8: bool = False,
    precision: Precision | None = None,
) -> Checkpoints:
    """Load the checkpoints `names`, at least one; without a `precision` in half precision on CUDA, float32 elsewhere.

    `memory`: `device` keeps all UNets on the device, `host` offloads them, `auto` offloads them if the device has no
    room for more than one. `fp8` quantises each UNet as soon as it is loaded, and needs `device`. Raises
    `WeightsError`.
    """
    pool, precision = TensorPool(), precision or precision_of(device)
    first, *others = names
    kept = {first: _load(weights, first, lambda file: load_checkpoint(file, device, pool, fp8, precision))}
    unet = kept[first].unet
    if not others or memory == "device" or (memory == "auto" and _fit_beside(weights, others, precision, device)):
        for name in others:
            kept[name] = _load(weights, name, lambda file: load_checkpoint(file, device, pool, fp8, precision))
        return Checkpoints(kept, {}, first)
    _log.info("the UNets of %s are offloaded to host memory: one at a time is on %s", ", ".join(names), device)
    offloaded = {first: OffloadedWeights(unet.state_dict(), unet.dtype, device)}
    for name in others:
        kept[name], offloaded[name] = _load(
            weights, name, lambda file: _load_offloaded(file, unet, device, pool, precision)
        )
    return Checkpoints(kept, offloaded, first)


def load_checkpoint(
    file: SingleFile,
    device: torch.device,
    pool: TensorPool | None = None,
    fp8: bool = False,
    precision: Precision | None = None,
) -> Checkpoint:
    """Load all networks of a checkpoint; tensors equal to those of others in `pool` are deduplicated.

    Without a `precision` half precision on CUDA, float32 elsewhere. `fp8` quantises the UNet, which is not deduplicated
    then: the pool would keep what was quantised. Raises `WeightsError`.
    """
    pool, precision = pool or TensorPool(), precision or precision_of(device)
    unet = unet_for_device(file.unet(device, precision.half), device)
    if fp8:
        quantise(unet)
    else:
        pool.deduplicate("unet", unet)
    return _with_text_encoders_and_vae(unet, file, device, pool, precision)


def checkpoint_needs(
    weights: WeightSet, names: Sequence[str], device: torch.device, memory: CheckpointMemory, precision: Precision
) -> list[MemoryNeed]:
    """What `load_checkpoints` takes: text encoders and VAEs that seem to be an earlier checkpoint's are not counted.

    `auto` takes the less of the device: all UNets on the host, unless the device is a CPU. Raises `WeightsError`.
    """
    offloaded = len(names) > 1 and (memory == "host" or (memory == "auto" and device.type == "cuda"))
    needs: list[MemoryNeed] = []
    files: list[SingleFile] = []
    for name in names:
        file = _open(weights, name)
        unet = file.size_of("unet", precision.half)
        on_device = 0 if files and offloaded else unet
        for part in _BESIDE_UNET:
            if not any(file.seems_to_share(part, earlier) for earlier in files):
                on_device += file.size_of(part, precision.wide_half if part == "vae" else precision.half)
        needs.append(MemoryNeed(role_of(name), device=on_device, host=unet if offloaded else 0))
        files.append(file)
    return needs


def _fit_beside(weights: WeightSet, names: Sequence[str], precision: Precision, device: torch.device) -> bool:
    """Whether the checkpoints `names` fit on the device beside what is there already."""
    free = _free_memory(device)
    if free is None:
        return True
    files = [_open(weights, name) for name in names]
    needed = sum(file.size_of(part, precision.half) for file in files for part in ("unet", *_BESIDE_UNET))
    return fits_in_memory(needed, free)


def fits_in_memory(needed: int, free: int) -> bool:
    """Whether `needed` bytes leave `WORKING_RESERVE` of `free` bytes."""
    return needed + WORKING_RESERVE <= free


def _load_offloaded(
    file: SingleFile, unet: Any, device: torch.device, pool: TensorPool, precision: Precision
) -> tuple[Checkpoint, OffloadedWeights]:
    """A checkpoint whose weights for `unet` are offloaded."""
    offloaded = OffloadedWeights(file.unet_tensors(like=unet), unet.dtype, device)
    return _with_text_encoders_and_vae(unet, file, device, pool, precision), offloaded


def _with_text_encoders_and_vae(
    unet: Any, file: SingleFile, device: torch.device, pool: TensorPool, precision: Precision
) -> Checkpoint:
    half, wide_half = precision
    return Checkpoint(
        unet=unet,
        clip_l=pool.deduplicate("clip_l", file.clip_l(device, half)),
        clip_g=pool.deduplicate("clip_g", file.clip_g(device, half)),
        vae=pool.deduplicate("vae", vae_for_device(file.vae(device, wide_half), device)),
    )


def _load(weights: WeightSet, name: str, load: Callable[[SingleFile], Loaded]) -> Loaded:
    role = role_of(name)
    return load_part(role, lambda _path: load(_open(weights, name)), weights[role])


def _open(weights: WeightSet, name: str) -> SingleFile:
    return SingleFile(weights[role_of(name)], weights.folder("sdxl_config"))


def _free_memory(device: torch.device) -> int | None:
    """Free bytes of the device; None on the CPU, where offloading saves nothing."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]


class OffloadedWeights:
    """The tensors of one network, in one contiguous block of host memory."""

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> None:
        """Copy `tensors`, all floating point, in precision `dtype`; `device` is where they will be loaded."""
        self._block = torch.empty(sum(tensor.numel() for tensor in tensors.values()), dtype=dtype)
        if device.type == "cuda":
            _lock_pages(self._block, device)
        parts = torch.split(self._block, [tensor.numel() for tensor in tensors.values()])
        self._tensors = {
            name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)
        }
        copy_into(self._tensors, tensors)

    def load_into(self, network: nn.Module) -> None:
        """Overwrite the network's tensors in place: captured graphs that hold their addresses stay valid."""
        for name, tensor in network.state_dict().items():
            tensor.copy_(self._tensors[name], non_blocking=True)


def _lock_pages(block: Tensor, device: torch.device) -> None:
    """Page-lock the block for asynchronous copies; torch's own pinned allocations are rounded up to 2^n bytes."""
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        status = int(runtime.cudaHostRegister(block.data_ptr(), block.nbytes, 0))
    if status:
        _log.warning("memory cannot be page-locked (CUDA error %d): switching checkpoints will take longer", status)
        # The refusal stays the runtime's last error, which the next kernel launch reports as its own.
        with suppress(torch.AcceleratorError):
            torch.ones(1, device=device)


class TensorPool:
    """The distinct tensors of the networks loaded so far.

    Fine-tuned checkpoints often keep the base model's text encoders and VAE: three of SDXL have gigabytes in common.
    """

    def __init__(self) -> None:
        """Create an empty pool."""
        self._kept: defaultdict[str, list[Tensor]] = defaultdict(list)

    def deduplicate(self, kind: str, network: Network) -> Network:
        """Replace tensors of `network` by equal ones of the same name of an earlier network of its `kind`.

        Returns `network`.
        """
        for name, tensor in chain(network.named_parameters(), network.named_buffers()):
            tensor.data = self._pooled(f"{kind}.{name}", tensor.data)
        return network

    def _pooled(self, name: str, tensor: Tensor) -> Tensor:
        for kept in self._kept[name]:
            if torch.equal(kept, tensor):
                return kept
        self._kept[name].append(tensor)
        return tensor
