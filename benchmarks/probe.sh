#!/usr/bin/env bash
# probe.sh [RUNS]: how long the probe of torch_info takes on a node, against `import torch` in the same environment there.
set -euo pipefail
[ "$EUID" = 0 ] || exec tests/tools/as-root.sh "$0" "$@"
stand=tests/stand/stand
export STAND_STATE=$PWD/.cache/stand-bench
trap '$stand down' EXIT
$stand up n01=torch
tar -cf - plugins/module_utils benchmarks/probe.py |
  $stand ssh n01 'mkdir -p /tmp/c/ansible_collections/airgap/torch_extensions && tar -xf - -C /tmp/c/ansible_collections/airgap/torch_extensions'
drop_caches() { [ "$1" = warm ] || { sync; echo 3 >/proc/sys/vm/drop_caches; }; }
measure() { # probe|import
  $stand ssh n01 "PYTHONPATH=/tmp/c python3 /tmp/c/ansible_collections/airgap/torch_extensions/benchmarks/probe.py $1"
}
for what in probe import; do measure $what >/dev/null; done # else the first one were not warm
for state in warm cold; do
  for ((run = 0; run < ${1:-5}; run++)); do
    for what in probe import; do
      drop_caches $state
      measure $what | sed "s/^/$state /"
    done
  done
done | python3 benchmarks/ratio.py ms
