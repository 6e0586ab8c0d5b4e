#!/usr/bin/env bash
# molecule.sh [--prepare] [SCENARIO..]: runs molecule's scenarios one after the other, each on a stand of its own; all of them
# by default. With --prepare only builds what their nodes are made of.
set -euo pipefail
[ "$EUID" = 0 ] || exec tests/tools/as-root.sh "$0" "$@"
stand=tests/stand/stand
export STAND_STATE=$PWD/.cache/stand-molecule # so that a stand which is up for something else stays as it is
export ANSIBLE_HOME=$STAND_STATE/ansible # molecule remembers what it has prepared; it must not outlive the stand

only=
if [ "${1:-}" = --prepare ]; then
  only=prepare
  shift
fi
if [ $# = 0 ]; then
  for file in molecule/*/molecule.yml; do
    [ ! -e "$file" ] || set -- "$@" "$(basename "$(dirname "$file")")"
  done
fi
[ $# -gt 0 ] || { echo "There is no scenario in molecule/." >&2; exit 1; }

nodes() { # SCENARIO -> NAME=LAYER of each of its platforms
  python - "molecule/$1/molecule.yml" <<'CODE'
import sys
import yaml
with open(sys.argv[1]) as file:
    platforms = yaml.safe_load(file)["platforms"]
print(*(f"{platform['name']}={platform['layer']}" for platform in platforms))
CODE
}
scenario() {
  local nodes
  nodes=$(nodes "$1") || return
  # shellcheck disable=SC2086 # one word a node
  $stand up $nodes && $stand control molecule test --scenario-name "$1"
}

# all layers at once: the wheels are built for all that there are, and anew when there is one more
layers=$(for name; do nodes "$name"; done | tr ' ' '\n' | sed 's/.*=//; s/,.*//' | sort -u)
# shellcheck disable=SC2086 # one word a layer
$stand prepare $layers
[ -z "$only" ] || exit 0

trap '$stand down' EXIT
results=()
failed=0
$stand down # what a broken run has left
for name; do
  start=$SECONDS
  if scenario "$name"; then result=passed; else result=FAILED failed=1; fi
  results+=("molecule $name: $result in $((SECONDS - start)) s")
  $stand down
done
printf '%s\n' "${results[@]}"
exit $failed
