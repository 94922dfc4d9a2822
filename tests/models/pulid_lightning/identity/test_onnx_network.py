"""ONNX graphs run by torch, beside onnxruntime."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bench.full_size.face_networks import (
    DetectorWidths,
    RecogniserWidths,
    write_detector,
    write_recogniser,
)
from models.pulid_lightning.identity.face import DETECTION_SIZES
from models.pulid_lightning.identity.onnx_network import OnnxNetwork
from models.pulid_lightning.identity.onnx_operators import UnsupportedGraph
from models.runtime.onnx import session_options
from tests.models.pulid_lightning.identity.live_memory import peak_of_live_bytes

NARROW_DETECTOR = DetectorWidths(stages=(8, 8, 8, 16), blocks=(1, 2, 1, 1), neck=8, head=8, head_depth=1)
NARROW_RECOGNISER = RecogniserWidths(stages=(4, 8, 8, 16), blocks=(1, 2, 3, 1))
# Relative to the largest value of an output, or to 1: onnxruntime's sigmoid is off by 1e-7, whatever its value.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return written(write_detector, tmp_path_factory.mktemp("detector"), NARROW_DETECTOR)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return written(write_recogniser, tmp_path_factory.mktemp("recogniser"), NARROW_RECOGNISER)


def written(write: Any, folder: Path, widths: Any) -> onnx.ModelProto:
    write(folder / "network.onnx", 1, widths)
    return onnx.load(folder / "network.onnx")


def by_both(model: onnx.ModelProto, *batches: np.ndarray) -> None:
    """Run both on each batch and compare all outputs."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    network = OnnxNetwork(model)
    (named,) = session.get_inputs()
    for batch in batches:
        expected = session.run(None, {named.name: batch})
        with torch.inference_mode():
            outputs = network(torch.from_numpy(batch))
        assert len(outputs) == len(expected) > 0
        for ours, theirs in zip(outputs, expected, strict=True):
            assert tuple(ours.shape) == theirs.shape
            assert np.abs(theirs).max() > 0
            assert np.abs(ours.numpy() - theirs).max() <= TOLERANCE * np.abs(theirs).max(initial=1)


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, shape).astype(np.float32)


def test_a_narrow_detector_at_all_its_sizes(detector: onnx.ModelProto):
    by_both(detector, *(pixels(1, 3, side, side) for side in DETECTION_SIZES))


def test_a_narrow_recogniser_for_one_face_and_for_three(recogniser: onnx.ModelProto):
    by_both(recogniser, pixels(1, 3, 112, 112), pixels(3, 3, 112, 112))


def test_names_of_tensors_and_nodes_mean_nothing(detector: onnx.ModelProto):
    renamed = onnx.ModelProto()
    renamed.CopyFrom(detector)
    graph = renamed.graph
    names = {name for node in graph.node for name in (*node.input, *node.output) if name}
    numbers = [str(number) for number in range(len(names))]
    random.Random(5).shuffle(numbers)
    new = dict(zip(sorted(names), numbers, strict=True))
    for node in graph.node:
        node.name = new[node.output[0]]
        node.input[:] = [new.get(name, "") for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    for named in (*graph.initializer, *graph.input, *graph.output):
        named.name = new[named.name]
    shuffled = list(graph.initializer)
    random.Random(6).shuffle(shuffled)
    del graph.initializer[:]
    graph.initializer.extend(shuffled)
    batch = torch.from_numpy(pixels(1, 3, 320, 320))
    for ours, theirs in zip(OnnxNetwork(renamed)(batch), OnnxNetwork(detector)(batch), strict=True):
        assert torch.equal(ours, theirs)


Constants = dict[str, np.ndarray]
Node = tuple[str, Sequence[str], dict[str, Any]]


def model(nodes: Sequence[Node], constants: Constants, opset: int = 11) -> onnx.ModelProto:
    """A chain of nodes from `x` to `y`; `<` is the output of the node before."""
    made, last = [], "x"
    for number, (operator, inputs, attributes) in enumerate(nodes):
        taken = [last if name == "<" else name for name in inputs]
        last = "y" if number == len(nodes) - 1 else f"v{number}"
        made.append(helper.make_node(operator, taken, [last], **attributes))
    graph = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 12, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    ir_version = 6 if opset < 13 else 8
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


FLAT: Node = ("Flatten", ["<"], {"axis": 1})
NORM = {"s": drawn(4), "b": drawn(4), "m": drawn(4) / 9, "v": np.abs(drawn(4)) + 1}
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
TOP_HALF: list[Node] = [
    ("Shape", ["x"], {}),
    ("Gather", ["<", "two"], {"axis": 0}),
    ("Unsqueeze", ["<"], {"axes": [0]}),
    ("Cast", ["<"], {"to": TensorProto.INT64}),
    ("Concat", ["minus", "<"], {"axis": 0}),
    ("Reshape", ["x", "<"], {}),
]
SUPPORTED = {
    "conv": ([("Conv", ["x", "w"], {"strides": [2, 1], "pads": [1, 0, 1, 0]})], {"w": drawn(6, 4, 3, 3)}),
    "conv by groups, dilated": (
        [("Conv", ["x", "w", "b"], {"group": 2, "dilations": [2, 2], "kernel_shape": [3, 3]})],
        {"w": drawn(6, 2, 3, 3), "b": drawn(6)},
    ),
    "conv, normalised, leaky": (
        [
            ("Conv", ["x", "w"], {}),
            ("BatchNormalization", ["<", "s", "b", "m", "v"], {"epsilon": 1e-3, "momentum": 0.9}),
            ("PRelu", ["<", "slope"], {}),
        ],
        {**NORM, "w": drawn(4, 4, 1, 1), "slope": drawn(4, 1, 1)},
    ),
    "one slope": ([("PRelu", ["x", "slope"], {})], {"slope": drawn(1)}),
    "maximum": ([("MaxPool", ["x"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4})], {}),
    "average": ([("AveragePool", ["x"], {**POOL, "ceil_mode": 1})], {}),
    "enlarged by factors": (
        [("Resize", ["x", "none", "f"], NEAREST)],
        {"none": drawn(0), "f": np.array([1, 1, 3, 2], np.float32)},
    ),
    "tail": (
        [
            FLAT,
            ("Dropout", ["<"], {}),
            ("Gemm", ["<", "w", "c"], {"transB": 1}),
            ("BatchNormalization", ["<", "s", "b", "m", "v"], {}),
        ],
        {**NORM, "w": drawn(4, 480), "c": drawn(4)},
    ),
    "product without a bias": ([FLAT, ("Gemm", ["<", "w"], {})], {"w": drawn(480, 3)}),
    "arithmetic": (
        [
            ("Sub", ["x", "c"], {}),
            ("Mul", ["<", "f"], {}),
            ("Add", ["<", "x"], {}),
            ("Relu", ["<"], {}),
            ("Sigmoid", ["<"], {}),
            ("Identity", ["<"], {}),
        ],
        {"c": drawn(4, 1, 1), "f": np.float32(0.7).reshape(())},
    ),
    "computed shape": (TOP_HALF, {"two": np.array(2, np.int64), "minus": ints(-1)}),
    "several at once": (
        [("Shape", ["x"], {}), ("Gather", ["<", "order"], {}), ("Reshape", ["x", "<"], {})],
        {"order": ints(0, 3, 2, 1)},
    ),
    "zeros copy sides": (
        [("Reshape", ["x", "s"], {}), ("Transpose", ["<"], {"perm": [2, 0, 1]})],
        {"s": ints(0, 0, -1)},
    ),
    "parts": (
        [("Slice", ["x", "from", "to", "axes", "steps"], {})],
        {"from": ints(1, -7), "to": ints(2**62, -1), "axes": ints(1, 2), "steps": ints(1, 2)},
    ),
    "axes as attributes": (
        [("Unsqueeze", ["x"], {"axes": [0, 3]}), ("Squeeze", ["<"], {"axes": [0, 3]})],
        {},
    ),
    "constant": (
        [("Constant", [], {"value": numpy_helper.from_array(drawn(4, 1, 1))}), ("Mul", ["x", "<"], {})],
        {},
    ),
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_operators(name: str):
    nodes, constants = SUPPORTED[name]
    by_both(model(nodes, constants), pixels(2, 4, 12, 10))


def test_axes_are_inputs_from_operator_set_13_on():
    nodes: list[Node] = [("Unsqueeze", ["x", "a"], {}), ("Squeeze", ["<", "a"], {})]
    by_both(model(nodes, {"a": ints(0, 3)}, opset=13), pixels(2, 4, 12, 10))


REFUSED = {
    "operator LeakyRelu": ([("LeakyRelu", ["x"], {})], {}),
    "groups of operator Relu": ([("Relu", ["x"], {"groups": 3})], {}),
    "pads [1, 0, 0, 0]": ([("MaxPool", ["x"], {**POOL, "pads": [1, 0, 0, 0]})], {}),
    "auto_pad b'SAME_UPPER'": ([("MaxPool", ["x"], {**POOL, "auto_pad": "SAME_UPPER"})], {}),
    "ceil_mode 1": ([("MaxPool", ["x"], {**POOL, "ceil_mode": 1})], {}),
    "windows of operator AveragePool beyond": ([("AveragePool", ["x"], {**POOL, "kernel_shape": [3, 3]})], {}),
    "mode b'linear'": ([("Resize", ["x", "", "f"], {**NEAREST, "mode": "linear"})], {"f": drawn(4)}),
    "operator Resize from [2, 4, 12, 10] to [2, 4, 18, 15]": (
        [("Resize", ["x", "", "f"], NEAREST)],
        {"f": np.array([1, 1, 1.5, 1.5], np.float32)},
    ),
    "alpha 0.5": ([FLAT, ("Gemm", ["<", "w"], {"alpha": 0.5})], {"w": drawn(480, 3)}),
    "slopes [10] of operator PRelu": ([("PRelu", ["x", "s"], {})], {"s": drawn(10)}),
    "operator Cast to DOUBLE": ([("Cast", ["x"], {"to": TensorProto.DOUBLE})], {}),
    "tensors of torch.float64": ([("Mul", ["x", "c"], {})], {"c": drawn(3).astype(np.float64)}),
    "axes None": ([("Squeeze", ["x"], {})], {}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_torch_would_compute_otherwise_is_refused_by_name(what: str):
    nodes, constants = REFUSED[what]
    with pytest.raises(UnsupportedGraph) as caught:
        OnnxNetwork(model(nodes, constants))(torch.zeros(2, 4, 12, 10))
    assert what in str(caught.value)


def test_older_operator_sets_are_refused():
    with pytest.raises(UnsupportedGraph, match="operator set 10"):
        OnnxNetwork(model([("Relu", ["x"], {})], {}, opset=10))


def test_results_are_released_after_their_last_use(detector: onnx.ModelProto):
    """The largest one, of the first convolution at 640 px, and what is made of it, are all that lives at a time."""
    network = OnnxNetwork(detector).to("meta")
    batch = torch.zeros(1, 3, 640, 640, device="meta")
    peak, total = peak_of_live_bytes(lambda: network(batch))
    largest = 4 * NARROW_DETECTOR.stages[0] * 320 * 320
    assert largest < peak <= 2.5 * largest
    assert total > 4 * peak
