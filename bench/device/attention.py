"""Section `attention` of `bench.gpu`: what each of torch's attention kernels takes at the shapes of default requests.

The shapes are those that both endpoints ask for, read from a request that is run eagerly. A kernel that refuses a shape
has a row without a value. Then what a kernel costs at a shape that it has not met, and attention of one wide head, as
VAEs have it, whole and in chunks of queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from bench.device.endpoints import Endpoint
from bench.device.requests import Bench
from bench.report import Row, row
from bench.timing import interleaved, wall_milliseconds
from models.runtime.vae_attention import MAX_SCORES, attend_in_chunks

_KERNELS: Final = {
    "cuda": (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION),
    "cpu": (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH),
}
_UNSEEN: Final = 5
"""So many shapes that a kernel has not met are tried."""
_HEAD: Final = 64
_WIDE: Final = 512
_TOKENS: Final = {False: (16384, 11520), True: (4608,)}
"""Latents of a 1024 x 1024 and a 960 x 768 picture; a few where networks are reduced."""


@dataclass(frozen=True)
class Shape:
    """Sizes and strides of queries, keys and values, and of the bias or mask if there is one."""

    tensors: tuple[tuple[tuple[int, ...], tuple[int, ...], torch.dtype], ...]
    causal: bool

    @classmethod
    def of(cls, *tensors: Tensor | None, causal: bool) -> Shape:
        """That of a call."""
        given = (tensor for tensor in tensors if tensor is not None)
        return cls(tuple((tuple(it.shape), it.stride(), it.dtype) for it in given), causal)

    def __str__(self) -> str:
        """Queries x keys x widths, such as 2x10x4096x64 by 77."""
        (query, _, dtype), (key, *_), (value, *_) = self.tensors[:3]
        width = "" if value[-1] == query[-1] else f", values {value[-1]} wide"
        bias = ", masked" if self.causal or len(self.tensors) > 3 else ""
        return f"{'x'.join(map(str, query))} by {key[-2]}{width}{bias}, {str(dtype).removeprefix('torch.')}"

    def call(self, device: torch.device) -> Callable[[], Tensor]:
        """The same call for random numbers."""
        tensors = [_random(size, stride, dtype, device) for size, stride, dtype in self.tensors]
        query, key, value = tensors[:3]
        bias = tensors[3] if len(tensors) > 3 else None
        return lambda: F.scaled_dot_product_attention(query, key, value, bias, is_causal=self.causal)


def _random(size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random numbers, or True, so laid out; a stride of 0 repeats them."""
    length = 1 + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    return torch.randn(length, device=device).abs_().to(dtype).as_strided(size, stride)


class _Watched(TorchFunctionMode):
    """Counts the calls of attention by their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: dict[Shape, int] = {}

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self._note(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _note(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> None:
        shape = Shape.of(query, key, value, attn_mask, causal=options.get("is_causal", False))
        self.shapes[shape] = self.shapes.get(shape, 0) + 1


@torch.inference_mode()
def rows(bench: Bench, *endpoints: Endpoint) -> Iterator[Row]:
    """Everything about attention; the endpoints must not be warm."""
    for endpoint in endpoints:
        with _Watched() as watched:
            endpoint.run(endpoint.prepare())()
        for shape, calls in watched.shapes.items():
            yield from _by_kernel(bench, f"{endpoint.name}: attention {shape}", shape, f"{calls} calls a request")
    yield from unseen(bench)
    yield from wide(bench)


def _by_kernel(bench: Bench, name: str, shape: Shape, note: str) -> Iterator[Row]:
    call, works = shape.call(bench.device), {}
    for kernel in _KERNELS[bench.device.type]:
        work = partial(_with, kernel, call)
        if refusal := _refusal(work):
            yield row(f"{name}, {_name(kernel)}", None, "ms", note=refusal)
        else:
            works[_name(kernel)] = work
    for kernel_name, timing in interleaved(works, bench.device, bench.repeats).items():
        yield row(f"{name}, {kernel_name}", timing.median, "ms", note=note)


def unseen(bench: Bench) -> Iterator[Row]:
    """The first call of a shape beside a later one, by wall time: what a kernel sets up for each shape."""
    for kernel in _KERNELS[bench.device.type]:
        name = f"attention, first call of a shape, {_name(kernel)}"
        # Not counted: what is set up once for all shapes.
        if refusal := _refusal(partial(_with, kernel, _plain(bench, 128))):
            yield row(name, None, "ms", note=refusal)
            continue
        firsts, later = [], []
        for number in range(_UNSEEN):
            # Nobody has such a size, so that nothing was set up for it.
            work = partial(_with, kernel, _plain(bench, (200 if bench.reduced else 4000) + 8 * number))
            firsts.append(wall_milliseconds(work, bench.device))
            later.append(wall_milliseconds(work, bench.device))
        note = f"median of {_UNSEEN} shapes, largest {max(firsts):.3g} ms; a later call {median(later):.3g} ms"
        yield row(name, median(firsts), "ms", note=note)


def wide(bench: Bench) -> Iterator[Row]:
    """One head of 512, by torch's own choice of kernel, and as VAEs have it on a GPU for several numbers of scores."""
    dtype = torch.bfloat16 if bench.device.type == "cuda" else torch.float32
    for tokens in _TOKENS[bench.reduced]:
        query, key, value = torch.randn(3, 1, tokens, _WIDE, device=bench.device, dtype=dtype)
        whole = partial(F.scaled_dot_product_attention, query[:, None], key[:, None], value[:, None])
        works: dict[str, Callable[[], Any]] = {"whole": whole}
        works |= {
            f"chunks of {scores // tokens} queries": partial(attend_in_chunks, query, key, value, scores)
            for scores in (MAX_SCORES // 4, MAX_SCORES // 2, MAX_SCORES, 2 * MAX_SCORES)
            if scores < tokens**2
        }
        for name, timing in interleaved(works, bench.device, max(2, bench.repeats // 4)).items():
            yield row(f"attention of one head of {_WIDE}, {tokens} tokens, {name}", timing.median, "ms")


def _with(kernel: SDPBackend, call: Callable[[], Tensor]) -> Tensor:
    with sdpa_kernel(kernel):
        return call()


def _refusal(work: Callable[[], Any]) -> str:
    """Why a kernel does not take the call, in one line; empty if it does."""
    try:
        work()
    except RuntimeError as error:
        return f"refused: {' '.join(str(error).split())[:120]}"
    return ""


def _plain(bench: Bench, tokens: int) -> Callable[[], Tensor]:
    """Attention of ten heads of 64, as in SDXL."""
    tensors = torch.empty(3, 2, 10, tokens, _HEAD, dtype=_half(bench), device=bench.device)
    return Shape.of(*tensors, causal=False).call(bench.device)


def _half(bench: Bench) -> torch.dtype:
    return torch.float16 if bench.device.type == "cuda" else torch.float32


def _name(kernel: SDPBackend) -> str:
    return kernel.name.removesuffix("_ATTENTION").lower()
