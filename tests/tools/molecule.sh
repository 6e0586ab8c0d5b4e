#!/usr/bin/env bash
# molecule.sh [SCENARIO..]: runs molecule's scenarios one after the other, each on a stand of its own; all of them by default
set -euo pipefail
[ "$EUID" = 0 ] || exec tests/tools/as-root.sh "$0" "$@"
stand=tests/stand/stand
export STAND_STATE=$PWD/.cache/stand-molecule # so that a stand which is up for something else stays as it is

if [ $# = 0 ]; then
  for file in molecule/*/molecule.yml; do
    [ ! -e "$file" ] || set -- "$@" "$(basename "$(dirname "$file")")"
  done
fi
[ $# -gt 0 ] || { echo "There is no scenario in molecule/." >&2; exit 1; }

scenario() {
  $stand up && $stand control molecule test --scenario-name "$1"
}

$stand prepare
trap '$stand down' EXIT
results=()
failed=0
for name; do
  start=$SECONDS
  if scenario "$name"; then result=passed; else result=FAILED failed=1; fi
  results+=("molecule $name: $result in $((SECONDS - start)) s")
  $stand down
done
printf '%s\n' "${results[@]}"
exit $failed
