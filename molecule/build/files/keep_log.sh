#!/usr/bin/env bash
# keep_log.sh FOLDER FILE: keeps the log of the build in FOLDER as FILE, from when it compiles until it is cleared away
set -euo pipefail
log() { compgen -G "$1/*/build.log" >/dev/null && cat "$1"/*/build.log 2>/dev/null; }
for _ in {1..1200}; do
  if log "$1" >"$2.new"; then
    mv "$2.new" "$2"
  elif [ -e "$2" ]; then
    rm -f "$2.new"
    exit
  fi
  sleep 0.05
done
echo "the build in $1 has not come to its end" >&2
exit 1
