"""A fake CUDA device: torch compiles for it down to machine code, and no kernel is launched.

`torch.compile` asks the device for its properties, and for streams and guards that must do nothing here; Triton asks
its driver for the target. Triton ships the assembler `ptxas`, so kernels are compiled to the target's machine code
without a driver. Uses private names of torch: for the locked version only. One target per process: torch caches what
it learnt of a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import torch
import torch._inductor.compile_fx
import torch._inductor.fx_passes.fuse_attention as fuse_attention
import torch._inductor.fx_passes.misc_patterns as misc_patterns
import torch._inductor.runtime.triton_helpers as triton_helpers
from torch._dynamo.device_interface import CudaInterface
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from tests.lowering.targets import Target

DEVICE: Final = torch.device("cuda", 0)
Launch = Callable[[Any, tuple[Any, ...]], None]
"""Called with a Triton kernel and its arguments instead of a launch."""
_WARP: Final = 32
_STREAM: Final = SimpleNamespace(stream_id=0, device_index=0, device_type=1, cuda_stream=0)


class _Driver:
    """Triton's driver of the target, without the means to load or launch anything."""

    binary_ext = "cubin"

    def __init__(self, target: Target) -> None:
        self._target = target
        self.utils = SimpleNamespace(get_device_properties=lambda _device: self._properties())

    def _properties(self) -> dict[str, int]:
        return {
            "max_shared_mem": self._target.shared_memory,
            "multiprocessor_count": self._target.multiprocessors,
            "max_num_regs": 1 << 16,
            "warpSize": _WARP,
        }

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._target.arch, _WARP)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return DEVICE

    def get_device_interface(self) -> Any:
        return torch.cuda


@contextmanager
def fake_cuda(target: Target, launch: Launch, assemble: bool = True) -> Iterator[None]:
    """Have torch find one device, `target`, whose tensors are fake: of the right kind and shape, without memory.

    `assemble`: compile Triton kernels to machine code; else their sources are generated only, in half the time.
    """
    torch._C._ensureCUDADeviceGuardSet()  # a guard that does nothing where there is no device
    driver.set_active(_Driver(target))
    with ExitStack() as stack:

        def replace(owner: Any, **attributes: Any) -> None:
            for name, value in attributes.items():
                stack.enter_context(patch.object(owner, name, value))

        _replace_device(replace, target)
        # Inductor would make the driver of a real device the active one again.
        replace(triton_helpers, set_driver_to_gpu=lambda: None)
        _replace_wrapper_calls(replace)
        replace(
            CachingAutotuner,
            precompile=lambda kernel, *_args, **_named: kernel._precompile_worker() if assemble else None,
            run=lambda kernel, *args, stream, **_named: launch(kernel, args),
        )
        # Its kernels keep no trace of what they were compiled for.
        replace(torch._inductor.config, use_static_cuda_launcher=False)
        stack.enter_context(FakeTensorMode())
        yield


def _replace_device(replace: Callable[..., None], target: Target) -> None:
    """What Python asks of the device."""
    properties = _properties(target)
    common: dict[str, Any] = {
        "current_device": lambda: 0,
        "current_stream": lambda _device=None: _STREAM,
        "device_count": lambda: 1,
        "get_device_properties": lambda _device=None: properties,
        "is_available": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: including_emulation or target.capability >= (8, 0),
        "synchronize": lambda _device=None: None,
    }
    replace(
        torch.cuda,
        **common,
        _exchange_device=lambda _device: -1,
        _lazy_init=lambda: None,
        _maybe_exchange_device=lambda _device: -1,
        get_arch_list=lambda: [f"sm_{target.arch}"],
        get_device_capability=lambda _device=None: target.capability,
        get_device_name=lambda _device=None: properties.name,
        get_rng_state=lambda _device="cuda": torch.zeros(16, dtype=torch.uint8),
        is_current_stream_capturing=lambda: False,
        set_device=lambda _device: None,
        set_rng_state=lambda _state, _device="cuda": None,
    )
    interface = {name: staticmethod(value) for name, value in common.items()}
    replace(
        CudaInterface,
        **interface,
        exchange_device=staticmethod(lambda _device: -1),
        get_compute_capability=staticmethod(lambda _device=None: target.arch),
        get_raw_stream=staticmethod(lambda _device: 0),
        maybe_exchange_device=staticmethod(lambda _device: -1),
    )
    replace(
        CudaInterface.Worker,
        current_device=interface["current_device"],
        get_device_properties=interface["get_device_properties"],
    )
    # Dynamo would look up the current stream of the accelerator.
    replace(torch.accelerator, is_available=lambda: False)
    # Both trace their patterns with tensors of the device; none of the patterns occurs where attention is one operator.
    replace(fuse_attention, _sfdp_init=lambda _device: None)
    replace(misc_patterns, _misc_patterns_init=lambda _device: None)
    replace(torch._C, _select_conv_backend=_conv_backend(target))


def _conv_backend(target: Target) -> Callable[..., Any]:
    """cuDNN for all that it takes on the target: torch itself finds no cuDNN without a device, and other layouts."""
    original, cudnn = torch._C._select_conv_backend, torch._C._ConvBackend.Cudnn

    def select(*args: Any, **named: Any) -> Any:
        source = named["input"] if "input" in named else args[0]
        taken = source.dtype != torch.bfloat16 or target.capability >= (8, 0)
        return cudnn if source.is_cuda and taken else original(*args, **named)

    return select


def _replace_wrapper_calls(replace: Callable[..., None]) -> None:
    """What Inductor's compiled graphs call: in C++, past the dispatcher that makes tensors fake."""

    def allocate(size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty_strided(size, stride, dtype=dtype, device=DEVICE)

    def reinterpret(source: torch.Tensor, size: Any, stride: Any, offset: int = 0) -> torch.Tensor:
        return torch.as_strided(source, size, stride, source.storage_offset() + offset)

    replace(
        torch._C._dynamo.guards,
        _empty_strided_cuda=allocate,
        _reinterpret_tensor=reinterpret,
        copy_if_misaligned=lambda source: source,
    )
    replace(torch._C, _cuda_getCurrentRawStream=lambda _device: 0)
    replace(torch._inductor.compile_fx, align_inputs_from_check_idxs=lambda model, *_args: model)


def _properties(target: Target) -> SimpleNamespace:
    major, minor = target.capability
    return SimpleNamespace(
        L2_cache_size=50 << 20,
        clock_rate=1_980_000,
        gcnArchName="",
        is_integrated=False,
        is_multi_gpu_board=False,
        major=major,
        max_threads_per_block=1024,
        max_threads_per_multi_processor=target.threads,
        memory_bus_width=5120,
        memory_clock_rate=2_619_000,
        minor=minor,
        multi_processor_count=target.multiprocessors,
        name=f"fake {target.name}",
        pci_bus_id=0,
        pci_device_id=0,
        pci_domain_id=0,
        regs_per_multiprocessor=1 << 16,
        shared_memory_per_block=48 << 10,
        shared_memory_per_block_optin=target.shared_memory,
        shared_memory_per_multiprocessor=target.shared_memory + 1024,
        total_memory=target.memory,
        uuid="0",
        warp_size=_WARP,
    )
