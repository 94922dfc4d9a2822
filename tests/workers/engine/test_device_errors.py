"""Errors of the device are classified, and distinguished from defects of a model."""

from __future__ import annotations

import subprocess
import sys
import weakref

import pytest
import torch

from workers.engine.device_errors import free_device_memory, is_broken_device, is_out_of_memory

BROKEN = (
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA driver error: unspecified launch failure"),
    RuntimeError("Triton Error [CUDA]: unspecified launch failure"),
)
OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
)
HARMLESS = (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("CUDA error"), MemoryError())


@pytest.mark.parametrize("error", BROKEN, ids=str)
def test_a_broken_device(error: Exception) -> None:
    assert (is_broken_device(error), is_out_of_memory(error)) == (True, False)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_out_of_memory(error: Exception) -> None:
    assert (is_broken_device(error), is_out_of_memory(error)) == (False, True)


@pytest.mark.parametrize("error", HARMLESS, ids=repr)
def test_defects_that_are_not_the_devices(error: Exception) -> None:
    assert (is_broken_device(error), is_out_of_memory(error)) == (False, False)


def test_classifying_does_not_import_torch() -> None:
    program = (
        "import sys; from workers.engine.device_errors import *; "
        "free_device_memory(); is_broken_device(RuntimeError('x')); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_freeing_without_a_device_does_not_touch_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """… which would initialise it. Garbage is collected all the same."""
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    cycle: list[object] = []
    cycle.append(found := Cycle(cycle))
    alive = weakref.ref(found)
    del cycle, found
    free_device_memory()
    assert emptied == []
    assert alive() is None


class Cycle:
    """Part of a reference cycle."""

    def __init__(self, other: object) -> None:
        self.other = other
