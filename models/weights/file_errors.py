"""Whatever a library raises over a weight file becomes one kind of error, which names the file."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from models.errors import DeviceUnfit, WeightFileError, WeightsError

_LONGEST: Final = 300
"""Characters of a library's message; some quote whole files, or list every tensor."""
_OUT_OF_MEMORY: Final = re.compile(r"can(not|'t) allocate memory|out of memory|bad_alloc", re.IGNORECASE)
_DEVICE: Final = re.compile(r"CUDA (error|driver|GPUs)|(CUDNN|CUBLAS)_STATUS")


@contextmanager
def file_errors(*files: Path | str, instead_of: Mapping[Path, Path] | None = None) -> Iterator[None]:
    """Turn what is raised inside into a `WeightFileError` that names `files`, unless it names others already.

    `instead_of`: paths that must not stand in the message, with those that do. What is no file's fault passes: that
    memory ran out (`MemoryError`, torch's own error for a device), a full disk, a device's failure, and the end of the
    process.
    """
    try:
        yield
    except (WeightFileError, DeviceUnfit, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    # A file can hold anything, and the libraries raise anything over it: RuntimeError, KeyError, AssertionError,
    # struct.error, UnicodeDecodeError, kinds of their own derived from nothing else.
    except BaseException as error:  # broad: a panic out of Rust is not even an Exception
        if _is_out_of_device_memory(error) or _is_of_device(error) or _is_of_the_disk(error):
            raise
        if _is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        reason = _reason(error)
        for old, new in (instead_of or {}).items():
            reason = reason.replace(str(old), str(new))
        raise WeightFileError(f"{' and '.join(map(str, files))}: {reason}") from error


def _is_out_of_device_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _is_of_the_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _is_of_device(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    known = torch is not None and isinstance(error, torch.AcceleratorError)
    return known or (isinstance(error, RuntimeError) and _DEVICE.search(str(error)) is not None)


def _is_out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return known or (not isinstance(error, WeightsError) and _OUT_OF_MEMORY.search(str(error)) is not None)


def _reason(error: BaseException) -> str:
    """Why, in one line that ends with a full stop."""
    if isinstance(error, WeightsError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {os.strerror(error.errno)}."
    words = " ".join(str(error).split())
    if "weights_only" in words:  # torch's message goes on to recommend the unsafe way
        return "not made of tensors alone."
    if len(words) > _LONGEST:
        words = f"{words[:_LONGEST]}…"
    return f"{type(error).__name__}: {words}" if words else f"{type(error).__name__}."
