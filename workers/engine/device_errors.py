"""Classifies exceptions: out of device memory, a device that this process cannot use any more, or neither.

torch is looked up only if something has imported it already.
"""

from __future__ import annotations

import gc
import re
import sys
from typing import Final

_BROKEN: Final = re.compile(
    r"CUDA (driver )?error|Triton Error \[CUDA\]|device-side assert|illegal memory access"
    r"|(CUDNN|CUBLAS)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)"
)
"""What torch, compiled kernels' launchers (`driver`), Triton and the libraries say, each with a prefix of its own."""
_OUT_OF_MEMORY: Final = re.compile(
    r"(CUDA|CUDA (driver )?error:|Triton Error \[CUDA\]:) out of memory|(CUDNN|CUBLAS)_STATUS_ALLOC_FAILED"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device ran out of memory; it can be used again."""
    torch = sys.modules.get("torch")
    known = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None)


def is_broken_device(error: BaseException) -> bool:
    """Whether the error is sticky: every later call of this process on the device fails as well."""
    if is_out_of_memory(error):
        return False
    torch = sys.modules.get("torch")
    known = torch is not None and isinstance(error, torch.AcceleratorError)
    return known or (isinstance(error, RuntimeError) and _BROKEN.search(str(error)) is not None)


def free_device_memory() -> None:
    """Collect garbage and empty torch's cache of device memory."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
