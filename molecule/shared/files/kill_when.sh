#!/usr/bin/env bash
# kill_when.sh CONDITION CMD..: runs CMD, and kills all of its processes once CONDITION, a command of bash, succeeds
set -euo pipefail
condition=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
setsid "$@" >"$log" 2>&1 &
run=$!
for _ in {1..1200}; do
  if bash -c "$condition"; then
    kill -KILL -- "-$run"
    exit
  fi
  if ! kill -0 "$run" 2>/dev/null; then
    cat "$log"
    echo "It came to its end before: $condition" >&2
    exit 1
  fi
  sleep 0.05
done
kill -KILL -- "-$run"
echo "It never came to: $condition" >&2
exit 1
