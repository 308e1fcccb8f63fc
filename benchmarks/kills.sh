#!/usr/bin/env bash
# N SIGKILLs at random moments over every resumable command, on one and two ranks; each run is resumed and compared, byte
# for byte, with the run that nobody stopped.
#   benchmarks/kills.sh N [--seed S] [--only COMMAND] [--record benchmarks/results/kills.json]
set -euo pipefail
export OMP_NUM_THREADS=1
exec "${PYTHON:-.venv/bin/python}" -m benchmarks.kills "$@"
