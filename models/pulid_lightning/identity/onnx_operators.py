"""The ONNX operators that are run by torch: those of convolutional networks as torch exports them, operator set 11 on.

Each is made from a node's attributes and takes the node's inputs as tensors, None for an input that is left out. Sizes
and positions are int64 tensors in host memory, as `Shape` gives them: to read them never waits for a device. Only what
torch computes exactly as ONNX defines it is accepted; all else raises `UnsupportedGraph`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor

Attributes = dict[str, Any]
"""Attributes by name; what an operator understands it takes out."""
Operation = Callable[..., Tensor]
"""Takes a node's inputs, gives its one output."""

_DTYPES: Final = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
}


class UnsupportedGraph(ValueError):
    """The graph has an operator, attribute or shape that is not run by torch; `str()` names it."""


def operation(operator: str, attributes: Mapping[str, Any]) -> Operation:
    """The operation of a node; raises `UnsupportedGraph`."""
    if operator not in _OPERATORS:
        raise UnsupportedGraph(f"operator {operator}")
    rest = dict(attributes)
    made = _OPERATORS[operator](rest)
    if rest:
        raise UnsupportedGraph(f"{', '.join(sorted(rest))} of operator {operator}")
    return made


def _conv(attributes: Attributes) -> Operation:
    pads, strides = _pads(attributes), _pair(attributes, "strides")
    dilations, groups = _pair(attributes, "dilations"), attributes.pop("group", 1)
    kernel = attributes.pop("kernel_shape", None)

    def conv(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.ndim != 4 or kernel not in (None, list(weight.shape[2:])):
            raise UnsupportedGraph(f"a convolution by weights {list(weight.shape)}")
        return F.conv2d(value, weight, bias, strides, pads, dilations, groups)

    return conv


def _batch_norm(attributes: Attributes) -> Operation:
    epsilon = attributes.pop("epsilon", 1e-5)
    attributes.pop("momentum", None)  # of training
    _expect(attributes, training_mode=0)

    def batch_norm(value: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(value, mean, variance, scale, bias, training=False, eps=epsilon)

    return batch_norm


def _prelu(_attributes: Attributes) -> Operation:
    def prelu(value: Tensor, slope: Tensor) -> Tensor:
        # ONNX aligns the slope's last dimension with the value's last one, torch its only one with the channels.
        per_channel = (value.shape[1], *[1] * (value.ndim - 2))
        if slope.numel() != 1 and tuple(slope.shape) != per_channel:
            raise UnsupportedGraph(f"slopes {list(slope.shape)} of operator PRelu")
        return F.prelu(value, slope.flatten())

    return prelu


def _gemm(attributes: Attributes) -> Operation:
    _expect(attributes, alpha=1.0, beta=1.0, transA=0)
    transposed = attributes.pop("transB", 0)

    def gemm(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = weight.t() if transposed else weight
        return torch.mm(value, product) if bias is None else torch.addmm(bias, value, product)

    return gemm


def _max_pool(attributes: Attributes) -> Operation:
    _expect(attributes, ceil_mode=0, storage_order=0, dilations=[1, 1])
    kernel, pads, strides = attributes.pop("kernel_shape"), _pads(attributes), _pair(attributes, "strides")
    return lambda value: F.max_pool2d(value, kernel, strides, pads)


def _average_pool(attributes: Attributes) -> Operation:
    """Without padding, for libraries differ in what they count then; so they do for windows beyond the edge."""
    _expect(attributes, count_include_pad=attributes.get("count_include_pad", 0), dilations=[1, 1])
    attributes.pop("ceil_mode", 0)
    kernel, pads, strides = attributes.pop("kernel_shape"), _pads(attributes), _pair(attributes, "strides")

    def average_pool(value: Tensor) -> Tensor:
        sides = zip(value.shape[2:], kernel, strides, strict=True)
        if pads != (0, 0) or any((side - window) % stride for side, window, stride in sides):
            raise UnsupportedGraph(f"windows of operator AveragePool beyond an image of {list(value.shape[2:])} px")
        return F.avg_pool2d(value, kernel, strides)

    return average_pool


def _resize(attributes: Attributes) -> Operation:
    """Repetition of every value, as torch exports nearest-neighbour interpolation: by whole factors."""
    _expect(attributes, mode=b"nearest", coordinate_transformation_mode=b"asymmetric", nearest_mode=b"floor")
    attributes.pop("cubic_coeff_a", None)  # of another mode

    def resize(value: Tensor, _roi: Tensor | None, scales: Tensor | None, sizes: Tensor | None = None) -> Tensor:
        if sizes is not None and sizes.numel():
            wanted = sizes.tolist()
        elif scales is not None:
            wanted = [int(side * scale) for side, scale in zip(value.shape, scales.tolist(), strict=True)]
        else:
            raise UnsupportedGraph("operator Resize without sizes")
        if wanted[:2] != list(value.shape[:2]) or any(new % old for new, old in zip(wanted, value.shape, strict=True)):
            raise UnsupportedGraph(f"operator Resize from {list(value.shape)} to {wanted}")
        return F.interpolate(value, size=wanted[2:], mode="nearest")

    return resize


def _flatten(attributes: Attributes) -> Operation:
    axis = attributes.pop("axis", 1)
    return lambda value: value.reshape(value.shape[:axis].numel(), -1)


def _reshape(attributes: Attributes) -> Operation:
    _expect(attributes, allowzero=0)

    def reshape(value: Tensor, shape: Tensor) -> Tensor:
        return value.reshape([side or value.shape[axis] for axis, side in enumerate(shape.tolist())])

    return reshape


def _transpose(attributes: Attributes) -> Operation:
    order = attributes.pop("perm")
    return lambda value: value.permute(order)


def _concat(attributes: Attributes) -> Operation:
    axis = attributes.pop("axis")
    return lambda *values: torch.cat(values, axis)


def _shape(attributes: Attributes) -> Operation:
    part = slice(attributes.pop("start", 0), attributes.pop("end", None))
    return lambda value: torch.tensor(value.shape[part], dtype=torch.int64)


def _gather(attributes: Attributes) -> Operation:
    axis = attributes.pop("axis", 0)

    def gather(value: Tensor, indices: Tensor) -> Tensor:
        if indices.ndim == 0:
            return value.select(axis, int(indices))
        return torch.stack([value.select(axis, index) for index in indices.tolist()], axis)

    return gather


def _slice(_attributes: Attributes) -> Operation:
    def part(
        value: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        chosen = [slice(None)] * value.ndim
        order = range(value.ndim) if axes is None else axes.tolist()
        widths = [1] * len(starts) if steps is None else steps.tolist()
        for axis, start, end, step in zip(order, starts.tolist(), ends.tolist(), widths, strict=False):
            chosen[axis] = slice(start, end, step)  # raises ValueError for steps back
        return value[tuple(chosen)]

    return part


def _unsqueeze(attributes: Attributes) -> Operation:
    return _by_axes(attributes, lambda value, axis: value.unsqueeze(axis))


def _squeeze(attributes: Attributes) -> Operation:
    # From the last axis on: those before it keep their numbers.
    return _by_axes(attributes, lambda value, axis: value.squeeze(axis), last_first=True)


def _by_axes(attributes: Attributes, step: Callable[[Tensor, int], Tensor], *, last_first: bool = False) -> Operation:
    """An operation axis by axis; they are an attribute up to operator set 12, an input from 13 on."""
    fixed = attributes.pop("axes", None)

    def by_axes(value: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = fixed if axes is None else axes.tolist()
        if chosen is None or min(chosen) < 0:
            raise UnsupportedGraph(f"axes {chosen} of Squeeze or Unsqueeze")
        for axis in sorted(chosen, reverse=last_first):
            value = step(value, axis)
        return value

    return by_axes


def _cast(attributes: Attributes) -> Operation:
    kind = attributes.pop("to")
    if kind not in _DTYPES:
        raise UnsupportedGraph(f"operator Cast to {TensorProto.DataType.Name(kind)}")
    return lambda value: value.to(_DTYPES[kind])


def _plain(function: Operation) -> Callable[[Attributes], Operation]:
    """An operator without attributes."""
    return lambda _attributes: function


def _expect(attributes: Attributes, **known: Any) -> None:
    """Take out attributes that may have one value only, which is also their default."""
    for name, value in known.items():
        if (found := attributes.pop(name, value)) != value:
            raise UnsupportedGraph(f"{name} {found!r}")


def _pads(attributes: Attributes) -> tuple[int, int]:
    """Rows and columns of padding, which must be the same on both sides."""
    _expect(attributes, auto_pad=b"NOTSET")
    top, left, bottom, right = attributes.pop("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise UnsupportedGraph(f"pads {[top, left, bottom, right]}")
    return top, left


def _pair(attributes: Attributes, name: str) -> tuple[int, int]:
    rows, columns = attributes.pop(name, (1, 1))
    return rows, columns


_OPERATORS: Final[Mapping[str, Callable[[Attributes], Operation]]] = {
    "Add": _plain(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Concat": _concat,
    "Conv": _conv,
    "Dropout": _plain(lambda value, *_training: value),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _plain(lambda value: value),
    "MaxPool": _max_pool,
    "Mul": _plain(torch.mul),
    "PRelu": _prelu,
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
