"""Torch pickles, turned into safetensors once: nothing else in the project reads one."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from models.errors import WeightsError
from models.weights.file_errors import file_errors

_READABLE: Final = 0o644
_GLOBAL: Final = re.compile(r"(?:GLOBAL |class |global: )['\"`]?([\w.]+\w)")
"""What torch says of something in a pickle that is no tensor."""


def convert(source: Path, target: Path, label: str) -> None:
    """Write the tensors of the pickle `source` to the safetensors file `target`; the same bytes each time.

    A state dict inside `{"state_dict": …}` is taken out. Only tensors are unpickled: what holds anything else is
    refused with `WeightFileError`, which calls the file `label`.
    """
    from safetensors.torch import save_file  # torch takes seconds to load, and is rarely needed here

    with file_errors(label):
        tensors = _own_memory(_unwrapped(_read(source)))
        save_file(tensors, target, metadata={"format": "pt"})
    target.chmod(_READABLE)


def _read(source: Path) -> Any:
    import torch

    try:
        # Files from before torch 1.6 are no archives and cannot be mapped.
        return torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    except (pickle.UnpicklingError, EOFError) as error:
        # Not torch's own words, which go on to recommend loading the file without that restriction.
        named = _GLOBAL.search(str(error))
        besides = f" ({named[1]})" if named else ""
        raise WeightsError(f"not a pickle of tensors alone{besides}, and not loaded.") from error


def _unwrapped(state: Any) -> Any:
    return state["state_dict"] if isinstance(state, Mapping) and "state_dict" in state else state


def _own_memory(state: Any) -> dict[str, Any]:
    """Every tensor contiguous and in memory of its own, as safetensors wants them."""
    import torch

    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError("it holds more than a state dict of tensors, and is not loaded.")
    tensors, seen = {}, set()
    for key, value in state.items():
        tensor = value.detach().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(storage.data_ptr())
        tensors[str(key)] = tensor
    return tensors
