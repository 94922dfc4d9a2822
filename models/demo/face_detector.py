"""The demo face detector: OpenCV's LBP cascade as an ONNX graph with SCRFD's inputs and outputs.

It really finds frontal, upright faces, of any person and also in grey pictures, because the cascade was trained for
it; but it is of 2007. It misses faces that are turned, tilted, covered or smaller than about a thirteenth of the
picture, and now and then takes a pattern for a face. Its keypoints do not follow the features: they lie where a
frontal face has them in the box.

The graph evaluates the cascade on every window of an image pyramid and counts the windows that pass in each
neighbourhood: a face is where the count is high, and its box is the mean of the windows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.demo.lbp_cascade import WINDOW, Feature, read_cascade
from models.demo.onnx_graph import Graph, floats, save

_SCALES: Final = [2.0 * 1.12**level for level in range(24)]
"""Picture px per px of the window: faces of 48 to 650 px."""
_LEVELS: Final = {8: (0, 8), 16: (5, 14), 32: (11, 24)}
"""Range of scales per stride; ranges overlap so that every face size is covered."""
_GRID: Final = 8
_REACH: Final = 5
"""Side of a neighbourhood in window positions."""
_PASSES_FOR_A_FACE: Final = 9.0
_STEEPNESS: Final = 0.5
_GREY: Final = (0.299, 0.587, 0.114)
_TIE: Final = 1e-4
"""Blocks that differ by less count as equal; it keeps rounding from making patterns of flat areas."""
_STAGE_SLACK: Final = 1e-5
_NEIGHBOURS: Final = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
"""(row, column) of the outer blocks of a 3 x 3 grid, from the code's highest bit to its lowest."""
_BOX: Final = (0.12, 0.05, 0.88, 1.02)
"""x1, y1, x2, y2 of a face's box, as shares of the window."""
_KEYPOINTS: Final = (0.29, 0.365, 0.71, 0.365, 0.5, 0.6, 0.313, 0.785, 0.687, 0.785)
"""x, y of eyes, nose and corners of the mouth, as shares of the window."""
_TO_THE_END: Final = np.iinfo(np.int64).max


def write_detector(file: Path) -> None:
    """Write the detector as an ONNX file.

    Input: RGB as (value - 127.5) / 128, [1, 3, height, width], sides divisible by 32 and at least 64. Outputs: for
    strides 8, 16, 32 scores [n, 1], boxes [n, 4], keypoints [n, 10] in strides from the anchor, two anchors a cell.
    """
    graph = Graph()
    grey = graph.add("Conv", "input", graph.constant(np.reshape(_GREY, (1, 3, 1, 1))))
    votes = _votes(graph, grey)
    columns = [_outputs(graph, votes, stride, levels) for stride, levels in _LEVELS.items()]
    infos = []
    for kind, width in enumerate((1, 4, 10)):
        for stride, values in zip(_LEVELS, columns, strict=True):
            name = f"{('score', 'bbox', 'kps')[kind]}_{stride}"
            graph.rename(values[kind], name)
            infos.append(floats(name, (None, width)))
    save(graph.close("lbp_face_detector", [floats("input", (1, 3, None, None))], infos), file)


def _votes(graph: Graph, grey: str) -> str:
    """Sums over each neighbourhood of the passing windows, on a grid of 8 px: [levels, 4, rows, columns].

    The four are: their number, and the sums of their centres' x and y and of their sizes, in px.
    """
    size = graph.add("Cast", graph.add("Shape", grey, start=2), to=TensorProto.FLOAT)
    smallest = graph.add("ReduceMin", size, keepdims=0)
    needed = graph.constant([scale * WINDOW for scale in _SCALES])
    fitting = graph.add("Cast", graph.add("LessOrEqual", needed, smallest), to=TensorProto.INT64)
    # A scale at which the window is larger than the picture has no windows to judge.
    levels = graph.add("ReduceSum", fitting, keepdims=0)
    scales = graph.constant(_SCALES)
    return graph.add("Loop", levels, "", body=_level_body(grey, size, scales))


def _level_body(grey: str, size: str, scales: str) -> onnx.GraphProto:
    body = Graph("level_")
    scale = body.add("Gather", scales, "level")
    sides = body.add("Floor", body.add("Div", size, scale))
    level = _resize(body, grey, sides, antialias=1)
    passing = _cascade(body, level)
    exact = body.add("Div", size, sides)
    moments = _moments(body, passing, exact, scale)
    before, after = WINDOW // 2, WINDOW // 2 - 1
    margins = body.constant([0, 0, before, before, 0, 0, after, after], np.int64)
    centred = body.add("Pad", moments, margins)
    cells = body.add("Floor", body.add("Div", size, body.constant(_GRID)))
    body.rename(body.add("Squeeze", _resize(body, centred, cells), body.constant([0], np.int64)), "votes")
    body.rename("again", "go_on")
    inputs = [
        helper.make_tensor_value_info("level", TensorProto.INT64, []),
        helper.make_tensor_value_info("again", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), floats("votes", (4, None, None))]
    return body.close("level", inputs, outputs)


def _resize(body: Graph, image: str, sides: str, antialias: int = 0) -> str:
    leading = body.add("Shape", image, end=2)
    sizes = body.add("Concat", leading, body.add("Cast", sides, to=TensorProto.INT64), axis=0)
    return body.add("Resize", image, "", "", sizes, mode="linear", antialias=antialias)


def _cascade(body: Graph, level: str) -> str:
    """1 for every window of `level` that passes all stages, 0 for the others: [1, 1, rows, columns]."""
    codes: dict[tuple[int, int], str] = {}
    margins = []
    for stage in read_cascade():
        votes = []
        for feature in stage.features:
            # Features of one block size read the same codes, each at its own place in the window.
            block = (feature.height, feature.width)
            if block not in codes:
                codes[block] = _codes(body, level, block)
            votes.append(body.add("Gather", body.constant(feature.votes), _shifted(body, codes[block], feature)))
        margins.append(body.add("Sub", body.add("Sum", *votes), body.constant(stage.threshold - _STAGE_SLACK)))
    worst = body.add("Min", *margins)
    passes = body.add("GreaterOrEqual", worst, body.constant(0))
    return body.add("Cast", passes, to=TensorProto.FLOAT)


def _codes(body: Graph, level: str, block: tuple[int, int]) -> str:
    """The code 0..255 of the 3 x 3 grid of blocks that begins at each px of `level`."""
    means = body.add("AveragePool", level, kernel_shape=block, strides=(1, 1))
    compare = np.zeros((len(_NEIGHBOURS), 1, 3, 3))
    compare[:, 0, 1, 1] = -1
    for bit, (row, column) in enumerate(_NEIGHBOURS):
        compare[bit, 0, row, column] = 1
    differences = body.add("Conv", means, body.constant(compare), dilations=block)
    bits = body.add("Cast", body.add("GreaterOrEqual", differences, body.constant(-_TIE)), to=TensorProto.FLOAT)
    values = body.constant((2.0 ** np.arange(7, -1, -1)).reshape(1, 8, 1, 1))
    return body.add("Cast", body.add("Conv", bits, values), to=TensorProto.INT64)


def _shifted(body: Graph, codes: str, feature: Feature) -> str:
    """The codes at the feature's place in every window."""
    starts = (feature.y, feature.x)
    grid = (3 * feature.height, 3 * feature.width)
    behind = [WINDOW - side - start for side, start in zip(grid, starts, strict=True)]
    ends = [-rest if rest else _TO_THE_END for rest in behind]
    return body.add("Slice", codes, *(body.constant(value, np.int64) for value in (starts, ends, (2, 3))))


def _moments(body: Graph, passing: str, exact: str, scale: str) -> str:
    """Number, x, y and size of the passing windows, summed over each neighbourhood: [1, 4, rows, columns]."""
    row_scale, column_scale = (body.add("Gather", exact, body.constant(axis, np.int64)) for axis in (0, 1))
    x = _coordinates(body, passing, 3, column_scale)
    y = _coordinates(body, passing, 2, row_scale)
    side = body.add("Mul", scale, body.constant(WINDOW))
    weighted = [body.add("Mul", passing, value) for value in (x, y, side)]
    stacked = body.add("Concat", passing, *weighted, axis=1)
    reach = _REACH // 2
    mean = body.add(
        "AveragePool", stacked, kernel_shape=(_REACH, _REACH), pads=(reach,) * 4, strides=(1, 1), count_include_pad=1
    )
    return body.add("Mul", mean, body.constant(_REACH**2))


def _coordinates(body: Graph, like: str, axis: int, scale: str) -> str:
    """Centre of every window along `axis` in px of the picture, in the shape of `like`."""
    ones = body.add("Add", body.add("Mul", like, body.constant(0)), body.constant(1))
    position = body.add("CumSum", ones, body.constant(axis, np.int64), exclusive=1)
    return body.add("Mul", body.add("Add", position, body.constant(WINDOW / 2)), scale)


def _outputs(graph: Graph, votes: str, stride: int, levels: tuple[int, int]) -> tuple[str, str, str]:
    """Scores, boxes and keypoints of one stride."""
    first, last = levels
    chosen = graph.add("Slice", votes, *(graph.constant([value], np.int64) for value in (first, last, 0)))
    total = graph.add("ReduceSum", chosen, graph.constant([0], np.int64), keepdims=1)
    step = graph.constant([stride // _GRID] * 2, np.int64)
    places = [graph.constant(value, np.int64) for value in ([0, 0], [_TO_THE_END] * 2, [2, 3])]
    cells = graph.add("Slice", total, *places, step)
    number, *sums = (
        graph.add("Slice", cells, *(graph.constant([value], np.int64) for value in (part, part + 1, 1)))
        for part in range(4)
    )
    score = graph.add(
        "Sigmoid",
        graph.add("Mul", graph.add("Sub", number, graph.constant(_PASSES_FOR_A_FACE)), graph.constant(_STEEPNESS)),
    )
    # Where nothing passed the score is low, and place and size are never looked at.
    counted = graph.add("Max", number, graph.constant(1e-6))
    x, y, side = (graph.add("Div", value, counted) for value in sums)
    centre = [graph.add("Sub", value, _anchors(graph, number, axis, stride)) for value, axis in ((x, 3), (y, 2))]
    box = _points(graph, centre, side, _BOX, stride)
    signs = graph.constant(np.reshape([-1, -1, 1, 1], (1, 4, 1, 1)))
    return (
        _rows(graph, score, 1),
        _rows(graph, graph.add("Mul", box, signs), 4),
        _rows(graph, _points(graph, centre, side, _KEYPOINTS, stride), 10),
    )


def _anchors(graph: Graph, like: str, axis: int, stride: int) -> str:
    ones = graph.add("Add", graph.add("Mul", like, graph.constant(0)), graph.constant(1))
    position = graph.add("CumSum", ones, graph.constant(axis, np.int64), exclusive=1)
    return graph.add("Mul", position, graph.constant(stride))


def _points(graph: Graph, centre: list[str], side: str, shares: tuple[float, ...], stride: int) -> str:
    """Points given as shares of the window (x, y, x, y, …), in strides from the anchor: [1, n, rows, columns]."""
    offsets = graph.constant(np.reshape(shares, (1, -1, 1, 1)) - 0.5)
    repeated = graph.add("Concat", *(centre * (len(shares) // 2)), axis=1)
    return graph.add("Div", graph.add("Add", repeated, graph.add("Mul", side, offsets)), graph.constant(stride))


def _rows(graph: Graph, cells: str, width: int) -> str:
    """[1, width, rows, columns] as [2 x rows x columns, width], each row twice: once for each anchor of a cell."""
    last = graph.add("Transpose", cells, perm=(0, 2, 3, 1))
    twice = graph.add("Concat", last, last, axis=3)
    return graph.add("Reshape", twice, graph.constant([-1, width], np.int64))
