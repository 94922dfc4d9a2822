"""The demo face recogniser: a thumbnail of the aligned face, mixed at random, with ArcFace's inputs and outputs.

Pictures that look alike give embeddings that point the same way; it knows nothing of persons.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from models.demo.onnx_graph import Graph, floats, save
from models.demo.random_weights import random_tensor

_SIDE: Final = 112
_BLOCK: Final = 8
_EMBEDDING: Final = 512
_NORM: Final = 20.0
"""Length of every embedding, a usual one for ArcFace."""


def write_recogniser(file: Path, seed: int) -> None:
    """Write the recogniser as an ONNX file.

    Input: aligned RGB as (value - 127.5) / 127.5, [n, 3, 112, 112]. Output: embeddings [n, 512].
    """
    # insightface takes nodes called Sub and Mul as a sign that the graph does its own normalisation.
    graph = Graph("recogniser_")
    inputs = 3 * (_SIDE // _BLOCK) ** 2
    thumbnail = graph.add("AveragePool", "input", kernel_shape=(_BLOCK, _BLOCK), strides=(_BLOCK, _BLOCK))
    flat = graph.add("Flatten", thumbnail)
    centred = graph.add("Sub", flat, graph.add("ReduceMean", flat, graph.constant([1], int), keepdims=1))
    weights = random_tensor("recogniser.weight", (_EMBEDDING, inputs), seed).T
    mixed = graph.add("MatMul", centred, graph.constant(weights.numpy()))
    length = graph.add("ReduceL2", mixed, graph.constant([1], int), keepdims=1)
    unit = graph.add("Div", mixed, graph.add("Max", length, graph.constant(1e-6)))
    graph.rename(graph.add("Mul", unit, graph.constant(_NORM)), "embedding")
    names = [floats("input", (None, 3, _SIDE, _SIDE))], [floats("embedding", (None, _EMBEDDING))]
    save(graph.close("thumbnail_recogniser", *names), file)
