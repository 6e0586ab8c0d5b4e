#!/usr/bin/env bash
# signal_build.sh SIGNAL BUILD: sends it to all processes of a build on this machine, whose folder's name begins so
set -euo pipefail
processes=$(grep -lsz "^TORCH_EXTENSION_BUILD_FOLDER=.*/$2" /proc/[0-9]*/environ | cut -d/ -f3)
[ -n "$processes" ] || { echo "no such build runs" >&2; exit 1; }
# shellcheck disable=SC2086 # one word a process
kill -"$1" $processes
