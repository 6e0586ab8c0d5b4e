#!/usr/bin/env bash
# kill_when.sh CONDITION CMD..: runs CMD, and kills it and all that it has started once CONDITION, a command of bash, succeeds
set -euo pipefail
condition=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# all that it has started, whatever their parents and sessions are (ansible-core 2.19 gives each worker one of its own)
started() { grep -lsz "^KILL_WHEN=$$\$" /proc/[0-9]*/environ | cut -d/ -f3 || true; }
kill_all() {
  local pids
  while pids=$(started) && [ -n "$pids" ]; do
    # shellcheck disable=SC2086 # one word a process
    kill -KILL $pids 2>/dev/null || true
    sleep 0.02
  done
}

env KILL_WHEN=$$ "$@" >"$log" 2>&1 &
run=$!
for _ in {1..1200}; do
  if bash -c "$condition"; then
    kill_all
    exit
  fi
  if ! kill -0 "$run" 2>/dev/null; then
    cat "$log"
    echo "It came to its end before: $condition" >&2
    exit 1
  fi
  sleep 0.05
done
kill_all
echo "It never came to: $condition" >&2
exit 1
