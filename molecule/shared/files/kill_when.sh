#!/usr/bin/env bash
# kill_when.sh CONDITION CMD..: runs CMD, and kills it and all that it has started once CONDITION, a command of bash, succeeds
set -euo pipefail
condition=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT

tree() { # PID: it and its children, whose sessions are their own (ansible-core 2.19)
  local child
  echo "$1"
  for child in $(pgrep -P "$1"); do tree "$child"; done
}

"$@" >"$log" 2>&1 &
run=$!
for _ in {1..1200}; do
  if bash -c "$condition"; then
    kill -STOP "$run" # it shall start nothing meanwhile
    mapfile -t all < <(tree "$run")
    kill -KILL "${all[@]}" 2>/dev/null || true
    exit
  fi
  if ! kill -0 "$run" 2>/dev/null; then
    cat "$log"
    echo "It came to its end before: $condition" >&2
    exit 1
  fi
  sleep 0.05
done
kill -KILL "$run"
echo "It never came to: $condition" >&2
exit 1
