#!/usr/bin/env bash
# cut.sh NODE BYTES SECONDS: once so much of a wheel has come to a node, pulls its cable, and plugs it in again after a while
set -euo pipefail
for _ in {1..600}; do
  size=$(find "$STAND_STATE/$1/upper/root/.cache" -name '*.part' -printf '%s\n' 2>/dev/null || true)
  if [ "${size:-0}" -gt "$2" ]; then
    "$STAND" cut "$1"
    [ "$3" -gt 60 ] || { sleep "$3" && "$STAND" heal "$1"; }
    exit
  fi
  sleep 0.1
done
echo "$2 bytes did not come to $1." >&2
exit 1
