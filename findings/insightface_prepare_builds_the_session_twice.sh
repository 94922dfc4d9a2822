#!/usr/bin/env bash
# insightface 2.1: model.prepare(-1), the documented way to choose the CPU, has onnxruntime read the file and build the
# session a second time, also where the session was made for the CPU and for nothing else.
#
# get_model(path, providers=["CPUExecutionProvider"]) builds a session. prepare(ctx_id) with a negative number then calls
# session.set_providers(["CPUExecutionProvider"]), which in onnxruntime 1.32.0 always re-creates the session, whether or
# not the providers differ. FaceAnalysis.prepare(-1) does so for each of its networks.
#
# Why it matters: for a recogniser of 260 MB that is a second reading and a second graph optimisation, about half of the
# time that loading takes. prepare(0) sets the same thresholds and sizes and leaves the session as it is.
#
# Exits with 0 as long as the behaviour is as described.
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

import insightface
import onnx
import onnxruntime
from insightface.model_zoo import get_model
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as native

path = Path(sys.argv[1]) / "recogniser.onnx"
info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 112, 112]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)

print("#", "insightface", insightface.__version__, "onnxruntime", onnxruntime.__version__)
build, built = onnxruntime.InferenceSession._create_inference_session, []
onnxruntime.InferenceSession._create_inference_session = lambda *args, **kwargs: built.append(1) or build(*args, **kwargs)
model = get_model(str(path), providers=["CPUExecutionProvider"])
print("get_model for the CPU, sessions built:", len(built), model.session.get_providers())
model.prepare(0)
print("prepare(0), sessions built:", len(built))
model.prepare(-1)
print("prepare(-1), sessions built:", len(built), model.session.get_providers())
PYTHON
"$folder/venv/bin/python" "$folder/look.py" "$folder" 2>/dev/null | tee "$folder/seen"
expected="get_model for the CPU, sessions built: 1 ['CPUExecutionProvider']
prepare(0), sessions built: 1
prepare(-1), sessions built: 2 ['CPUExecutionProvider']"
if [[ $(grep -v '^#' "$folder/seen") != "$expected" ]]; then
  echo "the behaviour has changed"
  exit 1
fi
