#!/usr/bin/env bash
# keep_log.sh FOLDER FILE: keeps the log of the build in FOLDER as FILE, until that is cleared away
set -euo pipefail
for _ in {1..2400}; do
  if ! compgen -G "$1/*/lock" >/dev/null; then exit; fi
  # it is not there for a moment when a build begins
  if cat "$1"/*/build.log >"$2.new" 2>/dev/null; then mv "$2.new" "$2"; fi
  sleep 0.05
done
echo "the build in $1 has not come to its end" >&2
exit 1
