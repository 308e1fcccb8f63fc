#!/usr/bin/env bash
# Does a run that is shuffled, killed by SIGKILL and resumed give every sample the very line of a plain run?
#   benchmarks/identical.sh DATA TEACHER OUT [SECONDS_BEFORE_THE_KILL]
set -euo pipefail
data=$1 teacher=$2 out=$3 wait=${4:-60}
apm=${APM:-.venv/bin/apm}
mkdir -p "$out"
[ -f "$out/plain/manifest.json" ] || "$apm" ttt run "$data" --teacher "$teacher" --out "$out/plain" --quiet >/dev/null
"$apm" ttt run "$data" --teacher "$teacher" --out "$out/again" --shuffle --quiet >/dev/null &
pid=$!
sleep "$wait"
if kill -9 "$pid" 2>/dev/null; then
  wait "$pid" 2>/dev/null || true
fi
echo "killed after $(wc -l <"$out/again/results.jsonl") of $(wc -l <"$out/plain/results.jsonl") samples"
"$apm" ttt run "$data" --teacher "$teacher" --out "$out/again" --shuffle --resume --quiet >/dev/null
if cmp <(sort "$out/plain/results.jsonl") <(sort "$out/again/results.jsonl"); then
  echo "identical: $(wc -l <"$out/again/results.jsonl") lines"
else
  exit 1
fi
