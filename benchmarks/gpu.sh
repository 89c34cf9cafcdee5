#!/usr/bin/env bash
# What a GPU is for, measured in one call of at most ten minutes: engine, training, headline, MNIST, spectrum of a UNet, local score.
#
#   bash benchmarks/gpu.sh OUT [IMAGES.npz]              # on the GPU; without IMAGES scikit-learn's digits
#   DEVICE=cpu QUICK=1 bash benchmarks/gpu.sh OUT        # the same steps, small, to try it
#
# OUT/gpu.json holds device, versions, and for every step its command, seconds, peak memory and results; small arrays lie beside it. A step
# that is in OUT already is not run again, one that runs out of its time leaves its checkpoints there and is told as unfinished.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: bash benchmarks/gpu.sh OUT [IMAGES.npz]}
images=${2:-}
device=${DEVICE:-cuda}
python=${PYTHON:-python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" MPLBACKEND=Agg
mkdir -p "$out"

run() { # seconds it may take, step
  if [ -s "$out/$2.json" ]; then
    echo "$2: done before"
    return
  fi
  echo "$2: at most $1 s"
  timeout --signal=INT --kill-after=20 "$1" "$python" benchmarks/gpu_steps.py "$2" --out "$out" --device "$device" \
    ${images:+--images "$images"} ${QUICK:+--quick} >"$out/$2.log" 2>&1 || echo "$2: not finished (status $?), see $out/$2.log"
}

run 90 engine
run 30 training
run 40 local
run 60 spectrum
run 200 headline
run 160 images
"$python" benchmarks/gpu_steps.py collect --out "$out" --device "$device"
