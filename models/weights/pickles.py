"""Torch pickles, turned into safetensors once: nothing else in the project reads one."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from models.errors import WeightsError

_READABLE: Final = 0o644


def convert(source: Path, target: Path, label: str) -> None:
    """Write the tensors of the pickle `source` to the safetensors file `target`; the same bytes each time.

    A state dict inside `{"state_dict": …}` is taken out. Only tensors are unpickled: what holds anything else is
    refused with `WeightsError`, which calls the file `label`.
    """
    from safetensors.torch import save_file  # torch takes seconds to load, and is rarely needed here

    tensors = _own_memory(_unwrapped(_read(source, label)), label)
    save_file(tensors, target, metadata={"format": "pt"})
    target.chmod(_READABLE)


def _read(source: Path, label: str) -> Any:
    import torch

    try:
        # Files from before torch 1.6 are no archives and cannot be mapped.
        return torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{label} is not a pickle of tensors alone, and is not loaded: {reason}") from error


def _unwrapped(state: Any) -> Any:
    return state["state_dict"] if isinstance(state, Mapping) and "state_dict" in state else state


def _own_memory(state: Any, label: str) -> dict[str, Any]:
    """Every tensor contiguous and in memory of its own, as safetensors wants them."""
    import torch

    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{label} holds more than a state dict of tensors, and is not loaded.")
    tensors, seen = {}, set()
    for key, value in state.items():
        tensor = value.detach().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(storage.data_ptr())
        tensors[str(key)] = tensor
    return tensors
