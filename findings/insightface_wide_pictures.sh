#!/usr/bin/env bash
# insightface 2.1, SCRFD.detect(): coordinates drift in wide pictures, and long strips raise instead of showing no face.
#
# detect() fits a picture into a square. The height of a wide one is scaled and cut to whole pixels, and the factor by
# which ALL coordinates are brought back is taken from that height, not from the width, which was scaled exactly. So x
# comes out too large by up to one part in the scaled height. Tall pictures are right. Where nothing is left of the
# shorter side, beyond an aspect of 320:1 for a square of 320 px, OpenCV's resize raises.
#
# Why it matters: in a panorama a face's keypoints lie beside the face (alignment and embedding are then of something
# else), and a service that hands on pictures of any size must refuse strips itself.
#
# No weights: a network of one pooling layer stands in for the detector and "finds" white cells of 8 px, so that the
# right answer is known. Seen with insightface 2.1, onnxruntime 1.32.0, opencv-python-headless 5.0.0.93.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
  insightface==2.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 opencv-python-headless==5.0.0.93 \
  scikit-image==0.26.0 scipy==1.17.1 pillow==13.0.0 lazy-loader==0.6 networkx==3.6.1 imageio==2.38.1 \
  protobuf==7.36.2 ml_dtypes==0.6.0 flatbuffers==25.12.19 packaging==26.4 typing_extensions tqdm==4.70.1 \
  requests==2.34.2 urllib3 idna certifi charset-normalizer
cat > "$folder/seen.py" <<'PYTHON'
import sys

import cv2
import insightface
import numpy as np
import onnx
import onnxruntime
from insightface.model_zoo.scrfd import SCRFD
from onnx import TensorProto, helper

SIDE = 320
print("insightface", insightface.__version__, "onnxruntime", onnxruntime.__version__, "OpenCV", cv2.__version__)

# Scores of two equal anchors per cell of 8 px are the cell's mean brightness; boxes and keypoints lie on the anchor.
nodes = [
    helper.make_node("Slice", ["input", "zero", "one", "one"], ["red"]),
    helper.make_node("AveragePool", ["red"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
    helper.make_node("Reshape", ["cells", "column"], ["once"]),
    helper.make_node("Concat", ["once", "once"], ["twice"], axis=1),
    helper.make_node("Reshape", ["twice", "column"], ["score_8"]),
    helper.make_node("Mul", ["score_8", "zeros4"], ["box_8"]),
    helper.make_node("Mul", ["score_8", "zeros10"], ["keypoints_8"]),
]
constants = {"zero": np.array([0]), "one": np.array([1]), "column": np.array([-1, 1])}
constants |= {f"zeros{width}": np.zeros((1, width), np.float32) for width in (4, 10)}
outputs = []
for kind, width in (("score", 1), ("box", 4), ("keypoints", 10)):
    for stride in (8, 16, 32):
        outputs.append(helper.make_tensor_value_info(f"{kind}_{stride}", TensorProto.FLOAT, [None, width]))
        if stride > 8:
            constants[f"{kind}_{stride}"] = np.zeros((2 * (SIDE // stride) ** 2, width), np.float32)
graph = helper.make_graph(
    nodes,
    "white",
    [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, None, None])],
    outputs,
    [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.save(model, sys.argv[1])
detector = SCRFD(sys.argv[1])
detector.prepare(-1)


def white_at(height, width, x, y, side):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y : y + side, x : x + side] = 255
    return picture


def seen(picture):
    boxes, _ = detector.detect(picture, input_size=(SIDE, SIDE), det_thresh=0.9)
    return boxes[:, 0].min(), boxes[:, 1].min()


# A panorama of 8000 x 990 px is scaled by 25 to 320 x 39.6 px, cut to 320 x 39: a cell that begins at 304 is at 7600.
wide = seen(white_at(990, 8000, 7600, 0, 400))
tall = seen(white_at(8000, 990, 0, 7600, 400))
print(f"wide 8000 x 990: the white cell begins at x = 7600, detect() says {wide[0]:.0f}")
print(f"tall 990 x 8000: the white cell begins at y = 7600, detect() says {tall[1]:.0f}")
try:
    seen(white_at(32, 32 * (SIDE + 1), 0, 0, 32))
    raised = "nothing"
except cv2.error as error:
    raised = f"cv2.error ({error.err})"
print(f"strip of {SIDE + 1}:1: detect() raises {raised}")
unchanged = abs(wide[0] - 7600 * (990 / 25) / 39) < 1 and abs(tall[1] - 7600) < 1 and raised != "nothing"
print("as described" if unchanged else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not unchanged)
PYTHON
cd "$folder"
"$folder/venv/bin/python" -W ignore seen.py "$folder/white.onnx"
