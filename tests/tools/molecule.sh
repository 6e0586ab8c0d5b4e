#!/usr/bin/env bash
# molecule.sh SCENARIO [SUFFIX]: runs one of molecule's scenarios on a stand of its own, which SUFFIX tells from that of another
# run of the scenario at the same time
# molecule.sh --prepare: builds what the nodes of all scenarios are made of
set -euo pipefail
[ "$EUID" = 0 ] || exec tests/tools/as-root.sh "$0" "$@"
stand=tests/stand/stand

nodes() { # MOLECULE.YML.. -> NAME=LAYER of each platform, and a word on it
  python - "$@" <<'CODE'
import sys
import yaml
for path in sys.argv[1:]:
    with open(path) as file:
        for platform in yaml.safe_load(file)["platforms"]:
            print(f"{platform['name']}={platform['layer']}", "optional" if platform.get("optional") else "needed")
CODE
}
layers() { # MOLECULE.YML..
  nodes "$@" | sed 's/ .*//; s/.*=//; s/,.*//' | sort -u
}

if [ "$1" = --prepare ]; then
  # all at once: the wheels are built for the layers that there are, and anew when there is one more. But for aarch64, which has its
  # own, and one scenario
  mapfile -t layers < <(layers molecule/*/molecule.yml | grep -vx aarch64)
  exec $stand prepare "${layers[@]}"
fi

file=molecule/$1/molecule.yml
[ -f "$file" ] || { echo "There is no scenario $1: no $file." >&2; exit 1; }
export STAND_STATE=$PWD/.cache/stand-molecule-$1${2:-}
export ANSIBLE_HOME=$STAND_STATE/ansible # molecule remembers what it has prepared; it must not outlive the stand
[ "$1" = users ] || export ANSIBLE_PIPELINING=true # that one shows what Ansible does by default
mapfile -t layers < <(layers "$file")
$stand prepare "${layers[@]}"
nodes=() left_out=()
while read -r node word; do
  layer=${node#*=}
  if [ "$word" = needed ] || $stand has "${layer%,*}"; then
    nodes+=("$node")
  else
    left_out+=("${node%%=*}")
    reason="Layer $layer cannot be had on this host" # the stand has just said why
    echo "$reason: scenario $1 goes without node ${node%%=*}."
  fi
done < <(nodes "$file")
[ ${#nodes[@]} -gt 0 ] || { echo "SKIPPED: $reason."; exit; }
export LEFT_OUT="${left_out[*]}"
trap '$stand down' EXIT
$stand down # what a broken run has left
$stand up "${nodes[@]}"
$stand control molecule test --scenario-name "$1"
