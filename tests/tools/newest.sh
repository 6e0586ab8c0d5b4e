#!/usr/bin/env bash
# newest.sh COMMAND..: runs it with the newest ansible-core, whose control node needs a Python of its own
set -euo pipefail
if ! tests/tools/find-python.sh 3.12 3.14 >/dev/null; then
  echo "SKIPPED: $(head -n 1 requirements-dev/core-newest.txt), and this machine has none."
  exit 0
fi
tests/tools/venv.sh .venv-newest newest 3.12 3.14
export PATH=$PWD/.venv-newest/bin:$PATH
ansible --version | sed -n 1p # to its end: unlike head, sed closes no pipe early
exec "$@"
