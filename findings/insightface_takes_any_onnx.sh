#!/usr/bin/env bash
# insightface 2.1: FaceAnalysis takes whatever .onnx lies in the model's folder, first by name.
#
# The folder of a model pack is not read by a list of its files. FaceAnalysis loads every *.onnx in it, tells the task of
# each by the shapes of its inputs and outputs (a square input of 112 px or more: face recognition), and keeps the first
# of a task by file name; the later ones are dropped with a log line of level debug.
#
# Why it matters: a copy that was laid aside ("backup.onnx" before "glintr100.onnx"), or any other network of that shape,
# silently takes the place of the one that was verified. The embeddings are then those of another network: same shape,
# same type, no error, other people. What is loaded by path, with insightface.model_zoo.get_model, is what was asked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps insightface==2.1
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 \
  opencv-python-headless==5.0.0.93 scikit-image==0.26.0 requests==2.34.2 tqdm==4.70.1

cat > "$folder/look.py" <<'PYTHON'
import sys
from pathlib import Path
import insightface, numpy, onnx, onnxruntime
from insightface.app import FaceAnalysis
from insightface.model_zoo import get_model
from onnx import TensorProto, helper

root = Path(sys.argv[1]) / "pack"
root.mkdir()

def save(name, outputs, side, factor):
    """A network of one multiplication; insightface knows tasks by shapes alone."""
    shape = [1, 3, side, side]
    info = [helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, shape) for n in range(outputs)]
    nodes = [helper.make_node("Mul", ["x", "factor"], [f"y{n}"]) for n in range(outputs)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], info,
                              [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), root / name)

save("detector.onnx", 9, 640, 1.0)
save("recogniser.onnx", 1, 112, 1.0)
for package in (insightface, onnx, onnxruntime, numpy):
    print("#", package.__name__, package.__version__)
options = {"providers": ["CPUExecutionProvider"]}

def taken():
    return Path(FaceAnalysis(name=str(root), **options).models["recognition"].model_file).name

print("the pack alone:", taken())
save("backup.onnx", 1, 112, 2.0)
print("backup.onnx beside it:", taken())
print("by path:", Path(get_model(str(root / "recogniser.onnx"), **options).model_file).name)
PYTHON

"$folder/venv/bin/python" "$folder/look.py" "$folder" 2>/dev/null | tee "$folder/seen"
expected=$'the pack alone: recogniser.onnx\nbackup.onnx beside it: backup.onnx\nby path: recogniser.onnx'
if [[ $(grep -v '^#' "$folder/seen") != "$expected" ]]; then
  echo "the behaviour has changed"
  exit 1
fi
