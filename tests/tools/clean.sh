#!/usr/bin/env bash
# clean.sh: stops the stands of this folder and removes what the make targets have made in it
set -euo pipefail
for state in "$PWD"/.cache/stand-*; do # root's, as all that follows may be
  [ ! -d "$state" ] || tests/tools/as-root.sh env STAND_STATE="$state" tests/stand/stand down
done
made=(.ansible .build .cache .venv .venv-* .pytest_cache .ruff_cache)
rm -rf "${made[@]}" 2>/dev/null || tests/tools/as-root.sh rm -rf "${made[@]}"
find plugins tests -name __pycache__ -prune -exec rm -rf {} +
