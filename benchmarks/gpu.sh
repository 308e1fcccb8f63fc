#!/bin/sh
# Everything that is to be known of a GPU, in at most eight minutes: benchmarks/gpu.sh [DIR] [--device cuda|cpu] [--quick]
#
#   DIR/device.json      equality with the CPU; adapted pictures a second, share of the matrix rate, graphs on and off
#   DIR/host-reads.json  how often a step waits for the device
#
# `--device cpu --quick` rehearses it where there is none. Exit code 1 where results differ from the CPU's, 124 where the
# time ran out; rows that were measured are on standard error as they come.
set -eu
out=runs/gpu
[ $# -gt 0 ] && case $1 in -*) ;; *) out=$1; shift ;; esac
apm=${APM:-apm}
limit=${LIMIT:-480}
begun=$(date +%s)
timeout "$limit" $apm bench device --out "$out" "${@:---device=cuda}"
left=$((limit - $(date +%s) + begun))
[ "$left" -gt 30 ] && timeout "$left" $apm bench host-reads --out "$out" --quiet > "$out/host-reads.txt" || true
python3 - "$out/device.json" << 'END'
import json, sys

found = json.load(open(sys.argv[1]))
worst = found["largest_difference"]
if worst > 1e-2:
    sys.exit(f"gpu.sh: results differ from the CPU's by {worst:.1e} of the largest number; see `equality` in {sys.argv[1]}")
print(f"gpu.sh: {found['device']}: equal to the CPU to {worst:.1e}; {len(found['rows'])} rows in {found['seconds']} s")
END
