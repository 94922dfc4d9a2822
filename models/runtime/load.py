"""Loading weight files into networks: read tensor by tensor, straight into their places on the device."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from torch import Tensor, nn

from models.runtime.state_dicts import check_alike
from models.runtime.tensor_file import Reading, StoredTensor, read_all
from models.weights.file_errors import file_errors

Loaded = TypeVar("Loaded")
Network = TypeVar("Network", bound=nn.Module)

_log = logging.getLogger(__name__)
_MEGABYTE: Final = 1e6


def load_part(name: str, load: Callable[..., Loaded], *paths: Path) -> Loaded:
    """Call `load` with `paths`, and log their size in MB and the time in seconds.

    Whatever is raised over them becomes a `WeightFileError` that names them; see `file_errors` for what passes.
    """
    began = time.monotonic()
    with file_errors(*paths):
        loaded = load(*paths)
        size = sum(_size_of(path) for path in paths)
    _log.info("%s: %.0f MB in %.1f s", name, size / _MEGABYTE, time.monotonic() - began)
    return loaded


def empty(build: Callable[[], Network]) -> Network:
    """Build a network whose parameters have shapes and no storage; `fill` gives them some."""
    with init_empty_weights():
        return build()


def fill(network: nn.Module, state: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> None:
    """Give an `empty` network the tensors of `state`, on `device` and, where they are floating-point, in `dtype`.

    Nothing is read unless keys, shapes and kinds of numbers are exactly the network's, else `WeightsError` is raised.
    The network is ready to be used then.
    """
    check_alike(state, network.state_dict())
    network.load_state_dict(place(state, device, dtype), assign=True)
    # What the state does not name, such as tables of positions, was built on the CPU.
    network.to(device).eval().requires_grad_(False)


def for_device(network: Network, device: torch.device) -> Network:
    """The network itself; on CUDA its convolutions' weights lie channels-last, as tensor cores read them."""
    if device.type == "cuda":
        network.to(memory_format=torch.channels_last)
    return network


def place(state: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors on `device`, in `dtype` where they are floating-point; those of files are read.

    Others are used as they are where nothing about them changes.
    """
    placed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        stored = isinstance(tensor, StoredTensor)
        placed[name] = torch.empty(tensor.shape, dtype=kind, device=device) if stored else tensor.to(device, kind)
    copy_into(placed, {name: tensor for name, tensor in state.items() if isinstance(tensor, StoredTensor)})
    return placed


def copy_into(places: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy the tensors of `state` into those of the same name and shape; those of files are read."""
    for name, tensor in state.items():
        if not isinstance(tensor, StoredTensor):
            places[name].copy_(tensor)
    read_all(Reading(places[name], (tensor,)) for name, tensor in state.items() if isinstance(tensor, StoredTensor))


def _size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
