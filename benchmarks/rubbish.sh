#!/usr/bin/env bash
# N mutated pictures, manifests, class lists, weights, run folders and settings files: no traceback, no hang over 5 s, no
# memory over 2 GiB, no number taken for another.
#   benchmarks/rubbish.sh N [--seed S] [--only KIND] [--record benchmarks/results/rubbish.json]
set -euo pipefail
export OMP_NUM_THREADS=1
exec "${PYTHON:-.venv/bin/python}" -m benchmarks.rubbish "$@"
