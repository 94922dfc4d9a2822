"""ONNX files of the two face networks at the topology and size of the published ones, with random values.

SCRFD-10GF with keypoints (16,923,827 bytes as published in antelopev2) and IResNet-100 (260,665,334 bytes), as their
authors' exporters leave them: operator set 11, batch normalisation folded into the convolution before it where there is
one, the detector's sizes computed in the graph (Shape, Slice, Concat, Resize), its outputs without a batch dimension
and declared for 640 x 640 px.

Topology: configs/scrfd/scrfd_10g_bnkps.py and arcface_torch/backbones/iresnet.py of deepinsight/insightface, PAFPN of
mmdetection. The files differ in size by 1 and 4 kB from the published ones, which have other names for their tensors.

The values keep activations near 1. The detector sees a face at about half of the anchors of stride 32, with keypoints
that lie as in a frontal face, in any picture; the recogniser's embeddings have a norm of about 30.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.demo.onnx_graph import Graph, floats, save

Array = NDArray[np.float32]

_OPSET: Final = 11
_SIDE: Final = 640
"""Input side of the detector for which its outputs are declared."""
_STRIDES: Final = (8, 16, 32)
_ANCHORS: Final = 2
"""Anchors at each position."""
_SCORE_BIASES: Final = {8: -8.0, 16: -8.0, 32: 0.0}
"""Logits: anchors of the fine strides, 10,000 and more, hardly ever pass."""
_KEYPOINTS: Final = (-0.7, -0.6, 0.7, -0.6, 0.0, 0.1, -0.55, 0.8, 0.55, 0.8)
"""(x, y) of eyes, nose tip and mouth corners, in strides from the anchor."""
_CROP: Final = 112
_EMBEDDING: Final = 512
_NORM: Final = 20.0
"""Length of an embedding, a usual one for ArcFace, of features of size 1."""
_BRANCH: Final = 0.2
"""Size of what a residual block adds, relative to its input."""
_LINEAR: Final = 0.7
"""Size of a convolution that has no ReLU before it."""


@dataclass(frozen=True)
class DetectorWidths:
    """Channels and depths of an SCRFD: stages of the backbone, neck, head."""

    stages: tuple[int, int, int, int] = (56, 88, 88, 224)
    blocks: tuple[int, int, int, int] = (3, 4, 2, 3)
    neck: int = 56
    head: int = 80
    head_depth: int = 3


@dataclass(frozen=True)
class RecogniserWidths:
    """Channels and depths of an IResNet's stages."""

    stages: tuple[int, int, int, int] = (64, 128, 256, 512)
    blocks: tuple[int, int, int, int] = (3, 13, 30, 3)


SCRFD_10G: Final = DetectorWidths()
IRESNET_100: Final = RecogniserWidths()
IRESNET_50: Final = RecogniserWidths(blocks=(3, 4, 14, 3))
"""The recogniser `w600k_r50` of insightface's smaller packs."""


def write_detector(path: Path, seed: int, widths: DetectorWidths = SCRFD_10G) -> None:
    """Write an SCRFD detector.

    Input: RGB as (value - 127.5) / 128, [1, 3, height, width], sides divisible by 32. Outputs: for strides 8, 16, 32
    scores [n, 1], boxes [n, 4], keypoints [n, 10] in strides from the anchor, two anchors at each position.
    """
    net = _Layers(Graph(), seed)
    stem = widths.stages[0]
    value = net.relu(net.conv("input.1", 3, stem // 2, 3, stride=2))
    value = net.relu(net.conv(value, stem // 2, stem // 2, 3))
    value = net.relu(net.conv(value, stem // 2, stem, 3))
    value = net.graph.add("MaxPool", value, ceil_mode=0, kernel_shape=(2, 2), pads=(0,) * 4, strides=(2, 2))
    levels, channels = [], stem
    for stage, (width, depth) in enumerate(zip(widths.stages, widths.blocks, strict=True)):
        for block in range(depth):
            value = net.basic_block(value, channels, width, halve=stage > 0 and block == 0)
            channels = width
        levels.append(value)
    outputs = [
        _head(net, level, stride, widths)
        for stride, level in zip(_STRIDES, _neck(net, levels[1:], widths), strict=True)
    ]
    infos = []
    for kind, columns in enumerate((1, 4, 10)):
        for stride, values in zip(_STRIDES, outputs, strict=True):
            name = f"{('score', 'bbox', 'kps')[kind]}_{stride}"
            net.graph.rename(values[kind], name)
            infos.append(floats(name, (_ANCHORS * (_SIDE // stride) ** 2, columns)))
    save(net.graph.close("scrfd", [floats("input.1", (1, 3, "?", "?"))], infos), path, _OPSET)


def write_recogniser(path: Path, seed: int, widths: RecogniserWidths = IRESNET_100) -> None:
    """Write an IResNet recogniser.

    Input: aligned RGB as (value - 127.5) / 127.5, [n, 3, 112, 112]. Output: embeddings [n, 512].
    """
    net = _Layers(Graph(), seed)
    channels = widths.stages[0]
    value = net.prelu(net.conv("input.1", 3, channels, 3), channels)
    for width, depth in zip(widths.stages, widths.blocks, strict=True):
        for block in range(depth):
            value = net.improved_block(value, channels, width, halve=block == 0)
            channels = width
    side = _CROP // 2 ** len(widths.stages)
    flat = net.graph.add("Flatten", net.batch_norm(value, channels), axis=1)
    inputs = channels * side * side
    weights = net.draw((_EMBEDDING, inputs), _NORM / (inputs * _EMBEDDING) ** 0.5)
    bias = net.draw((_EMBEDDING,), 0.01)
    embedding = net.graph.add(
        "Gemm", flat, net.graph.constant(weights), net.graph.constant(bias), alpha=1.0, beta=1.0, transB=1
    )
    net.graph.rename(net.batch_norm(embedding, _EMBEDDING), "1333")
    names = [floats("input.1", ("None", 3, _CROP, _CROP))], [floats("1333", ("None", _EMBEDDING))]
    save(net.graph.close("iresnet", *names), path, _OPSET)


def _neck(net: _Layers, levels: Sequence[str], widths: DetectorWidths) -> list[str]:
    """PAFPN: a top-down and a bottom-up path over the last three stages."""
    neck = widths.neck
    laterals = [
        net.conv(level, width, neck, 1, size=_LINEAR) for level, width in zip(levels, widths.stages[1:], strict=True)
    ]
    for index in (1, 0):
        laterals[index] = net.graph.add("Add", laterals[index], net.enlarge(laterals[index + 1], laterals[index]))
    inner = [net.conv(lateral, neck, neck, 3, size=_LINEAR) for lateral in laterals]
    for index in (0, 1):
        down = net.conv(inner[index], neck, neck, 3, stride=2, size=_LINEAR)
        inner[index + 1] = net.graph.add("Add", inner[index + 1], down)
    return [inner[0], *(net.conv(value, neck, neck, 3, size=_LINEAR) for value in inner[1:])]


def _head(net: _Layers, value: str, stride: int, widths: DetectorWidths) -> tuple[str, str, str]:
    """Scores, boxes and keypoints of one stride, whose convolutions are its own."""
    channels = widths.neck
    for _ in range(widths.head_depth):
        value = net.relu(net.conv(value, channels, widths.head, 3))
        channels = widths.head
    scores = net.conv(value, channels, _ANCHORS, 3, bias=np.full(_ANCHORS, _SCORE_BIASES[stride], np.float32))
    boxes = net.conv(value, channels, 4 * _ANCHORS, 3, size=0.1, bias=np.full(4 * _ANCHORS, 2, np.float32))
    boxes = net.graph.add("Mul", boxes, net.graph.constant(1.25))
    points = net.conv(value, channels, 10 * _ANCHORS, 3, size=0.05, bias=np.tile(_KEYPOINTS, _ANCHORS))
    return net.graph.add("Sigmoid", net.rows(scores, 1)), net.rows(boxes, 4), net.rows(points, 10)


class _Layers:
    """Adds layers with random values to a graph; all values are taken and given by name."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.graph, self._random = graph, np.random.default_rng(seed)

    def draw(self, shape: tuple[int, ...], deviation: float, mean: float = 0.0) -> Array:
        drawn = self._random.standard_normal(shape, np.float32)
        drawn *= np.float32(deviation)
        drawn += np.float32(mean)
        return drawn

    def conv(
        self,
        value: str,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        size: float = 1.0,
        bias: NDArray[np.floating] | None = None,
    ) -> str:
        """A convolution with a bias that keeps the size of activations behind a ReLU, times `size`."""
        weights = self.draw((outputs, inputs, kernel, kernel), size * (2 / (inputs * kernel * kernel)) ** 0.5)
        given = self.draw((outputs,), 0.05 * size) if bias is None else bias
        return self.graph.add(
            "Conv",
            value,
            self.graph.constant(weights),
            self.graph.constant(given),
            dilations=(1, 1),
            group=1,
            kernel_shape=(kernel, kernel),
            pads=(kernel // 2,) * 4,
            strides=(stride, stride),
        )

    def relu(self, value: str) -> str:
        return self.graph.add("Relu", value)

    def prelu(self, value: str, channels: int) -> str:
        slopes = self.draw((channels, 1, 1), 0.05, 0.25)
        return self.graph.add("PRelu", value, self.graph.constant(slopes))

    def batch_norm(self, value: str, channels: int) -> str:
        """A normalisation that no convolution before it can take in."""
        scale, bias, mean = self.draw((channels,), 0.1, 1.0), self.draw((channels,), 0.1), self.draw((channels,), 0.1)
        variance = np.exp(self.draw((channels,), 0.1))
        constants = [self.graph.constant(array) for array in (scale, bias, mean, variance)]
        return self.graph.add("BatchNormalization", value, *constants, epsilon=1e-5, momentum=0.9)

    def basic_block(self, value: str, inputs: int, outputs: int, halve: bool) -> str:
        """Two convolutions beside a shortcut, which averages before its convolution where the block halves."""
        branch = self.relu(self.conv(value, inputs, outputs, 3, stride=2 if halve else 1))
        branch = self.conv(branch, outputs, outputs, 3, size=_BRANCH)
        if halve:
            value = self.graph.add("AveragePool", value, ceil_mode=1, kernel_shape=(2, 2), strides=(2, 2))
            value = self.conv(value, inputs, outputs, 1, size=_LINEAR)
        return self.relu(self.graph.add("Add", branch, value))

    def improved_block(self, value: str, inputs: int, outputs: int, halve: bool) -> str:
        """Normalisation, convolution, PReLU and convolution beside a shortcut, without an activation behind it."""
        branch = self.prelu(self.conv(self.batch_norm(value, inputs), inputs, outputs, 3, size=_LINEAR), outputs)
        branch = self.conv(branch, outputs, outputs, 3, stride=2 if halve else 1, size=_BRANCH)
        if halve:
            value = self.conv(value, inputs, outputs, 1, stride=2, size=_LINEAR)
        return self.graph.add("Add", branch, value)

    def enlarge(self, value: str, like: str) -> str:
        """The nearest values at the size of `like`, as an exporter writes it for any size."""
        zero, two, four = (self.graph.constant([number], np.int64) for number in (0, 2, 4))
        wanted = self.graph.add("Slice", self.graph.add("Shape", like), two, four, zero)
        leading = self.graph.add("Slice", self.graph.add("Shape", value), zero, two, zero)
        sizes = self.graph.add("Concat", leading, wanted, axis=0)
        empty = self.graph.constant([])
        return self.graph.add(
            "Resize",
            value,
            empty,
            empty,
            sizes,
            coordinate_transformation_mode="asymmetric",
            cubic_coeff_a=-0.75,
            mode="nearest",
            nearest_mode="floor",
        )

    def rows(self, value: str, columns: int) -> str:
        """[1, anchors x columns, height, width] as [height x width x anchors, columns]."""
        last = self.graph.add("Transpose", value, perm=(2, 3, 0, 1))
        return self.graph.add("Reshape", last, self.graph.constant([-1, columns], np.int64))
