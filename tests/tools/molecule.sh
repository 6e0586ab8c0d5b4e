#!/usr/bin/env bash
# molecule.sh [--prepare] [SCENARIO..]: runs molecule's scenarios, each on a stand of its own, two at a time; all of them by
# default. With --prepare only builds what their nodes are made of.
set -euo pipefail
[ "$EUID" = 0 ] || exec tests/tools/as-root.sh "$0" "$@"
stand=tests/stand/stand
AT_ONCE=2 # more are no faster on two cores

nodes() { # SCENARIO -> NAME=LAYER of each of its platforms
  python - "molecule/$1/molecule.yml" <<'CODE'
import sys
import yaml
with open(sys.argv[1]) as file:
    platforms = yaml.safe_load(file)["platforms"]
print(*(f"{platform['name']}={platform['layer']}" for platform in platforms))
CODE
}

scenario() { # SCENARIO: on a stand that no other one uses
  local nodes
  export STAND_STATE=$PWD/.cache/stand-molecule-$1
  export ANSIBLE_HOME=$STAND_STATE/ansible # molecule remembers what it has prepared; it must not outlive the stand
  nodes=$(nodes "$1") || return
  trap '$stand down' EXIT
  $stand down || return # what a broken run has left
  # shellcheck disable=SC2086 # one word a node
  $stand up $nodes && $stand control molecule test --scenario-name "$1"
}

outcome() { # SCENARIO: a line that says whether it passed, after it has run
  local start=$SECONDS result=FAILED
  if (scenario "$1") >&2; then result=passed; fi
  echo "molecule $1: $result in $((SECONDS - start)) s"
}

results=.cache/molecule
if [ "${1:-}" = --beside-others ]; then # its output comes when it is whole
  outcome "$2" >"$results/$2" 2>"$results/$2.log"
  exec flock "$results" cat "$results/$2.log" "$results/$2"
fi

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

# all layers at once: the wheels are built for all that there are, and anew when there is one more
layers=$(for name; do nodes "$name"; done | tr ' ' '\n' | sed 's/.*=//; s/,.*//' | sort -u)
# shellcheck disable=SC2086 # one word a layer
$stand prepare $layers
[ -z "$only" ] || exit 0

rm -rf "$results"
mkdir -p "$results"
if [ $# = 1 ]; then
  outcome "$1" >"$results/$1"
else
  printf '%s\n' "$@" | xargs -P "$AT_ONCE" -I NAME "$0" --beside-others NAME
fi
(cd "$results" && cat "$@") # fails if one has come to no end
! (cd "$results" && grep -q FAILED "$@")
