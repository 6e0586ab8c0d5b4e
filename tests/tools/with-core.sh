#!/usr/bin/env bash
# with-core.sh CORE COMMAND..: runs it with the ansible-core of requirements-dev/core-CORE.txt, on the oldest Python that its control
# node takes and this machine has
set -euo pipefail
core=$1 venv=.venv-core-$1
shift
requirement=$(cat "requirements-dev/core-$core.txt")
read -r oldest newest < <(sed -nE 's/.*Python ([0-9.]+) to ([0-9.]+)$/\1 \2/p' <<<"$requirement")
python=$(tests/tools/find-python.sh "$oldest" "$oldest" || tests/tools/find-python.sh "$oldest" "$newest") || {
  echo "SKIPPED: $requirement, and this machine has none."
  exit 0
}
tests/tools/venv.sh "$venv" "$python" "core-$core" plays
export PATH=$PWD/$venv/bin:$PATH
ansible --version | sed -n '1p; s/^ *python version/on Python/p' # to its end: unlike head, sed closes no pipe early
exec "$@"
