"""Linear layers in float8, for GPUs whose tensor cores multiply it at twice the rate of half precision.

Both factors are rounded to e4m3: three bits of mantissa, at most 448. Every row of the activations has a scale of its
own, found anew in each call, and every output channel of the weights one that is fixed. This changes pictures.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from models.errors import DeviceUnfit

FLOAT8: Final = torch.float8_e4m3fn
_LARGEST: Final = torch.finfo(FLOAT8).max
_SMALLEST_SCALE: Final = 1e-12
"""Keeps rows of zeros from being divided by zero."""
_CAPABILITY: Final = (8, 9)
_MULTIPLE: Final = 16
"""Of which both widths of a layer must be multiples: the kernels read sixteen bytes at a time."""
_PROJECTIONS_OF_TEXT: Final = (".attn2.to_k", ".attn2.to_v")


class Float8Linear(nn.Module):
    """A linear layer whose weights are kept, and multiplied, in float8."""

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        """Round the weights of `linear`; its bias is used as it is."""
        super().__init__()
        weight, scale = to_float8(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.T.contiguous())
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out], in the precision of `x`."""
        # The kernels want rows that lie one after the other, whatever the layout of x.
        rows, scale = to_float8(x.flatten(0, -2).contiguous())
        product = _multiply(rows, self.weight, scale, self.scale).to(x.dtype).view(*x.shape[:-1], -1)
        return product if self.bias is None else product + self.bias


def require_fp8(device: torch.device) -> None:
    """Raise `DeviceUnfit` unless `device` multiplies in float8."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _CAPABILITY:
        raise DeviceUnfit("FACELIGHT_FP8 needs a GPU of compute capability 8.9 or more, such as Ada's or Hopper's.")


def quantise(unet: Any) -> int:
    """Replace the linear layers of a UNet's transformer blocks, in place; returns how many.

    Those that project the text stay: they are evaluated once per request, not once per step.
    """
    found = [
        name
        for name, layer in unet.named_modules()
        if ".transformer_blocks." in name and not name.endswith(_PROJECTIONS_OF_TEXT) and _fits(layer)
    ]
    for name in found:
        unet.set_submodule(name, Float8Linear(unet.get_submodule(name)))
    return len(found)


def to_float8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows [n, width] to float8; the second result holds their scales [n, 1] (float32)."""
    wide = x.float()
    scale = wide.abs().amax(1, keepdim=True).clamp(min=_SMALLEST_SCALE) / _LARGEST
    return (wide / scale).to(FLOAT8), scale


def _fits(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) and not layer.in_features % _MULTIPLE and not layer.out_features % _MULTIPLE


def _multiply(rows: Tensor, weight: Tensor, row_scale: Tensor, weight_scale: Tensor) -> Tensor:
    """Rows [n, in] times weights [out, in], with scales [n, 1] and [1, out]; summed up in float32 or nearly so."""
    if not rows.is_cuda:
        return rows.float() @ weight.float().T * row_scale * weight_scale
    # Kernels with scales by row give bfloat16 only.
    return torch._scaled_mm(
        rows, weight.T, scale_a=row_scale, scale_b=weight_scale, out_dtype=torch.bfloat16, use_fast_accum=True
    )
