#!/usr/bin/env bash
# onnxruntime 1.32.0, CPU: Sigmoid has an absolute error of about 1e-7 at every value. From about -16 down it gives exact
# zeros and larger values again, it can give more than 1, and it does not rise with its input everywhere.
#
# ONNX defines the operator as 1 / (1 + exp(-x)), which float32 holds with 7 digits down to -87, rising everywhere. The
# runtime approximates it by a quotient of polynomials plus one half, and what is left of the half shows (on x86_64 with
# AVX2 or AVX-512; the last digits differ by processor): sigmoid(-8) is off by 0.02 %, sigmoid(-14) by 7 %, sigmoid(-17)
# is twice its value and larger than sigmoid(-16), sigmoid(-20) is 0.
#
# Why it matters: scores of detectors are sigmoids, most of them tiny. A parity test with a relative tolerance fails on
# them without a defect, log(score) is -inf for inputs that are nothing special, and an order by score is no order by
# logit. Compare such outputs with a tolerance relative to 1, and take logarithms of logits.
#
# Exits with 0 as long as the behaviour is as described.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "g", info[:1], info[1:])
model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def both(x):
    x = np.asarray(x, np.float32)
    return session.run(None, {"x": x})[0].astype(np.float64), 1 / (1 + np.exp(-x.astype(np.float64)))


print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__, "numpy", np.__version__)
for x, ours, exact in zip((-4, -8, -14, -16, -17, -20, 17), *both([-4, -8, -14, -16, -17, -20, 17]), strict=True):
    print(f"x = {x:4}  onnxruntime {ours:.8g}  exact {exact:.8g}")
x = np.linspace(-30, 30, 600_001)
ours, exact = both(x)
print(f"largest error {np.abs(ours - exact).max():.2g}, largest value {ours.max():.8f}")
print(f"first zero at {x[ours == 0].max():.2f}, where float32 holds {exact[ours == 0].max():.2g}")
print("falls somewhere:", bool((np.diff(ours) < 0).any()))
assert 1e-8 < np.abs(ours - exact).max() < 1e-6
assert (ours[x > -18.5] == 0).any() and (np.diff(ours) < 0).any()
far = (x > -16) & (x < -12)
assert np.abs(ours[far] / exact[far] - 1).max() > 0.01
print("as described")
PYTHON
