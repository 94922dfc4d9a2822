"""The demo face recogniser: `face_code`'s linear map of the aligned face, with ArcFace's inputs and outputs.

Pictures that look alike give embeddings that are alike; it knows nothing of persons.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from models.demo.face_code import BLOCK, embedding_weights
from models.demo.onnx_graph import Graph, floats, save

_SIDE: Final = 112


def write_recogniser(file: Path) -> None:
    """Write the recogniser as an ONNX file.

    Input: aligned RGB as (value - 127.5) / 127.5, [n, 3, 112, 112]. Output: embeddings [n, 512], not normalised.
    """
    # insightface takes nodes called Sub and Mul as a sign that the graph does its own normalisation: none may be here.
    graph = Graph("recogniser_")
    weights = embedding_weights()
    blocks = graph.add("AveragePool", "input", kernel_shape=(BLOCK, BLOCK), strides=(BLOCK, BLOCK))
    mixed = graph.add("MatMul", graph.add("Flatten", blocks), graph.constant(weights.T))
    graph.rename(mixed, "embedding")
    names = [floats("input", (None, 3, _SIDE, _SIDE))], [floats("embedding", (None, len(weights)))]
    save(graph.close("thumbnail_recogniser", *names), file)
