#!/bin/sh
# The first quarter of an hour on a GPU: tests that need one, then measurements, the most telling first. No network.
#
#   OUT=/somewhere bench/first_gpu.sh              # 14 minutes at most
#   bench/first_gpu.sh --device cpu --reduced      # narrow networks on the processor, to see that it works
#
# One result file, first-gpu-<device>-<date>.json, in $OUT (else in bench/results), valid after every row. Logs and the
# compilers' kernels lie in $OUT/work (else in var/first-gpu). Called again with the same OUT on the same day, it goes on
# with the steps that did not end, and with the kernels that are there.
# PYTHON names the interpreter. It needs torch 2.11 or newer and the packages of bench/first_gpu_wheels.txt.
set -eu
cd "$(dirname "$0")/.."
results=${OUT:-bench/results}
work=${OUT:+$OUT/work}
work=${work:-var/first-gpu}
mkdir -p "$results" "$work"
work=$(cd "$work" && pwd)

PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
TORCHINDUCTOR_CACHE_DIR=$work/inductor
TRITON_CACHE_DIR=$work/triton
export PYTHONPATH TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR
# As a worker sets them.
export HF_HUB_OFFLINE=1 PYTORCH_ALLOC_CONF=expandable_segments:True OMP_WAIT_POLICY=passive

exec "${PYTHON:-python3}" -m bench.device.first_gpu --results "$results" --work "$work" "$@"
