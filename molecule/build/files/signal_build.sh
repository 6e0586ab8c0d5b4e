#!/usr/bin/env bash
# signal_build.sh SIGNAL: sends it to all processes of the build on this machine
set -euo pipefail
processes=$(grep -lsz '^TORCH_EXTENSION_BUILD_FOLDER=' /proc/[0-9]*/environ | cut -d/ -f3)
[ -n "$processes" ] || { echo "no build runs" >&2; exit 1; }
# shellcheck disable=SC2086 # one word a process
kill -"$1" $processes
