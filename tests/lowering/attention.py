"""Which kernel torch chooses for an attention on a CUDA device: the rules of `scaled_dot_product_attention`, restated.

Torch asks the device itself; without one it always writes the scores out. Stated are the rules of torch 2.15 for
inference (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp): its order of kernels, and what each one accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.lowering.targets import Target

Backend = Literal["cudnn", "flash", "efficient", "math"]
_AMPERE: Final = (8, 0)
_CUDNN_FIRST: Final = (9, 10)
"""Major compute capabilities on which cuDNN comes before FlashAttention."""
_WIDEST: Final = 256
"""Width of a head that FlashAttention and cuDNN take at most."""
_MULTIPLE: Final = 8
_FLOAT32_MULTIPLE: Final = 4
_BIAS_MULTIPLE: Final = 16
_HALF: Final = (torch.float16, torch.bfloat16)


def backend_for(target: Target, query: Tensor, value: Tensor, bias: Tensor | None, cudnn: bool) -> Backend:
    """The kernel that torch chooses; `cudnn`: whether cuDNN's is enabled."""
    widths = query.shape[-1], value.shape[-1]
    ampere = target.capability >= _AMPERE
    half = query.dtype in (_HALF if ampere else _HALF[:1])
    narrow = half and ampere and max(widths) <= _WIDEST
    aligned = not any(width % _MULTIPLE for width in widths)
    # Elsewhere cuDNN comes last, behind the kernel that takes everything.
    if cudnn and target.capability[0] in _CUDNN_FIRST and narrow and aligned:
        return "cudnn"
    if narrow and bias is None and widths[0] == widths[1]:
        return "flash"
    multiple = _MULTIPLE if half else _FLOAT32_MULTIPLE if ampere else 1
    if (half or query.dtype == torch.float32) and not any(width % multiple for width in widths):
        return "efficient"
    return "math"


def attention_on(target: Target, cudnn: bool) -> Callable[..., Tensor]:
    """A replacement for `scaled_dot_product_attention` that calls the operator of the chosen kernel.

    Raises `RuntimeError` where torch would write the scores out: no network that is served may come to that.
    """
    original = F.scaled_dot_product_attention

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if not query.is_cuda:
            return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        backend = backend_for(target, query, value, attn_mask, cudnn)
        if backend == "math":
            raise RuntimeError(f"no fused attention takes heads of {query.shape[-1]} in {query.dtype}")
        if backend == "flash":
            return _flash(query, key, value, is_causal, scale)
        return _with_bias(backend, query, key, value, attn_mask, is_causal, scale)

    return attend


def _flash(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> Tensor:
    width, short = query.shape[-1], -query.shape[-1] % _MULTIPLE
    padded = [F.pad(x, (0, short)) if short else x for x in (query, key, value)]
    output = torch.ops.aten._scaled_dot_product_flash_attention(*padded, 0.0, causal, False, scale=scale)[0]
    return output[..., :width] if short else output


def _with_bias(
    backend: Backend, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, causal: bool, scale: float
) -> Tensor:
    aten: Any = torch.ops.aten
    if bias is not None:
        sizes = query.shape[0], query.shape[1], query.shape[2], key.shape[2]
        bias = _aligned(bias).expand(sizes) if backend == "efficient" else bias.expand(sizes)
    if backend == "efficient":
        operator, rest = aten._scaled_dot_product_efficient_attention, (0.0, causal)
    else:
        operator, rest = aten._scaled_dot_product_cudnn_attention, (0.0, causal, False)
    return operator(query, key, value, bias, False, *rest, scale=scale)[0]


def _aligned(bias: Tensor) -> Tensor:
    """The same bias with rows whose lengths in memory are a multiple of 16, as the kernel wants them."""
    tokens, short = bias.shape[-1], -bias.shape[-1] % _BIAS_MULTIPLE
    return F.pad(bias, (0, short))[..., :tokens] if short else bias
