"""A small writer of ONNX graphs: one call for each node, values known by their names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

OPSET: Final = 19
_IR_VERSIONS: Final = {11: 6, OPSET: 9}
"""The file format's version that came with an operator set."""


class Graph:
    """A graph under construction. Names are numbered, with a prefix that keeps nested graphs apart."""

    def __init__(self, prefix: str = "") -> None:
        """Begin an empty graph."""
        self._prefix, self._numbers = prefix, count()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: ArrayLike, dtype: type = np.float32) -> str:
        """Store a tensor; gives its name."""
        name = self._name("constant")
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, dtype)), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node of one output; gives the output's name."""
        name = self._name(op)
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def rename(self, value: str, name: str) -> None:
        """Make `value` known under `name`, as outputs need it."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))

    def close(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        """The finished graph."""
        return helper.make_graph(self._nodes, name, list(inputs), list(outputs), initializer=self._constants)

    def _name(self, stem: str) -> str:
        return f"{self._prefix}{stem}_{next(self._numbers)}"


def floats(name: str, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    """Describe a float32 input or output."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def save(graph: onnx.GraphProto, file: Path, opset: int = OPSET) -> None:
    """Check the graph and write it as a model file; `opset` is 11 or `OPSET`."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="facelight")
    model.ir_version = _IR_VERSIONS[opset]
    onnx.checker.check_model(model)
    onnx.save(model, file)
