"""An ONNX graph as a torch module: its nodes, one after the other, by torch's functions on any device.

Nothing goes by the names of nodes and tensors, which exporters number as they like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from models.pulid_lightning.identity.onnx_operators import Operation, UnsupportedGraph, operation

_OLDEST_OPSET: Final = 11
"""Before it `Slice`, `Resize` and the poolings were defined differently."""


@dataclass
class _Step:
    """One node: numbers of its input values, None where one is left out, and of its output."""

    operator: str
    operation: Operation
    inputs: list[int | None]
    output: int
    released: list[int] = field(default_factory=list)
    """Values that no later step takes."""


class OnnxNetwork(nn.Module):
    """A network of one input. Its floating-point tensors are float32 buffers, its integers are in host memory."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Take over a model's graph and tensors; raises `UnsupportedGraph`."""
        super().__init__()
        opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
        if opset < _OLDEST_OPSET:
            raise UnsupportedGraph(f"operator set {opset}")
        self._numbers: dict[str, int] = {}
        self._integers: dict[int, Tensor] = {}
        graph = model.graph
        for tensor in graph.initializer:
            self._keep(tensor.name, tensor)
        # Old files list initialisers as inputs too.
        inputs = [value.name for value in graph.input if value.name not in self._numbers]
        if len(inputs) != 1:
            raise UnsupportedGraph(f"{len(inputs)} inputs")
        self._input = self._number(inputs[0])
        self._steps = list(self._read(graph.node))
        self._outputs = [self._numbers[value.name] for value in graph.output]
        self._plan_releases()

    def forward(self, value: Tensor) -> list[Tensor]:
        """The graph's outputs, in its order, for its float32 input."""
        values: dict[int, Tensor] = {self._input: value, **self._integers}
        buffers = self._buffers
        for step in self._steps:
            taken = [None if number is None else values.get(number, buffers.get(str(number))) for number in step.inputs]
            values[step.output] = step.operation(*taken)
            for number in step.released:
                del values[number]
        return [values[number] for number in self._outputs]

    def _read(self, nodes: Sequence[onnx.NodeProto]) -> Iterator[_Step]:
        for node in nodes:
            attributes: dict[str, Any] = {
                attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute
            }
            if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
                raise UnsupportedGraph(f"operator {node.domain}.{node.op_type} with {len(node.output)} outputs")
            if node.op_type == "Constant":
                if set(attributes) != {"value"}:
                    raise UnsupportedGraph(f"{', '.join(attributes)} of operator Constant")
                self._keep(node.output[0], attributes["value"])
                continue
            inputs = [self._numbers[name] if name else None for name in node.input]
            made = operation(node.op_type, attributes)
            yield _Step(node.op_type, made, inputs, self._number(node.output[0]))

    def _keep(self, name: str, tensor: onnx.TensorProto) -> None:
        array = torch.tensor(numpy_helper.to_array(tensor))
        number = self._number(name)
        if array.dtype == torch.float32:
            self.register_buffer(str(number), array)
        elif array.dtype in (torch.int32, torch.int64):
            self._integers[number] = array
        else:
            raise UnsupportedGraph(f"tensors of {array.dtype}")

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _plan_releases(self) -> None:
        """Let every value live until its last step: intermediate results outweigh the weights."""
        kept = {*self._outputs, *self._integers}
        kept.update(int(name) for name in self._buffers)
        seen = set(kept)
        for step in reversed(self._steps):
            for number in {step.output, *(number for number in step.inputs if number is not None)} - seen:
                step.released.append(number)
                seen.add(number)
