#!/usr/bin/env bash
# venv.sh VENV PYTHON NAME..: makes VENV of requirements-dev/NAME.txt and so on, with an interpreter.
# One that is there already is kept, as long as no requirement has changed.
set -euo pipefail
venv=$1 python=$2 bootstrap=.venv-bootstrap
mapfile -t files < <(printf -- '--requirement=requirements-dev/%s.txt\n' "${@:3}")
# molecule refuses 2.17, of which it uses no more than of the others
mapfile -t overrides < <(printf -- '--override=requirements-dev/%s.txt\n' "${@:3}" | grep '/core-' || true)

stamp=made-of # in each environment, written last
requirements=$(cat requirements.txt requirements-dev/*.txt; echo "$PWD")
is_made() { [ "$(cat "$1/$stamp" 2>/dev/null)" = "$requirements" ]; }

if is_made $bootstrap && is_made "$venv"; then exit; fi
[ "${VENV_LOCKED:-}" = 1 ] || VENV_LOCKED=1 exec flock "$0" "$0" "$@" # two steps may want the same one at the same time

if ! is_made $bootstrap; then
  echo "Making $bootstrap with $python"
  "$python" -m venv --clear $bootstrap
  $bootstrap/bin/pip install --quiet --requirement requirements-dev/bootstrap.txt
  echo "$requirements" > $bootstrap/$stamp
fi
if ! is_made "$venv"; then
  echo "Making $venv with $python"
  settings=$($bootstrap/bin/python tests/tools/pip_settings.py uv)
  eval "$settings"
  export UV_COMPILE_BYTECODE=1 # else ansible compiles itself at each start where PYTHONDONTWRITEBYTECODE is set
  $bootstrap/bin/uv venv --quiet --clear --python "$python" "$venv"
  $bootstrap/bin/uv pip install --quiet --python "$venv/bin/python" "${files[@]}" "${overrides[@]}"
  echo "$requirements" > "$venv/$stamp"
fi
