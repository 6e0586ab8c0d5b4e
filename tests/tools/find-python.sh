#!/usr/bin/env bash
# find-python OLDEST NEWEST: prints the path of a Python of this machine between the two, e.g. find-python 3.11 3.13
set -u
test='import sys
low, high = (tuple(map(int, v.split("."))) for v in sys.argv[1:])
if not low <= sys.version_info[:2] <= high: sys.exit(1)
import ensurepip, venv
print(getattr(sys, "_base_executable", sys.executable))'
# pyenv's shims answer only for the version that is switched on, hence its folders
for python in python3 python3.{10..19} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
  "$python" -c "$test" "$@" 2>/dev/null && exit
done
exit 1
