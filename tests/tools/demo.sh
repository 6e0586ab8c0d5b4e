#!/usr/bin/env bash
# demo.sh: from two air-gapped nodes that have torch but no flash-attn to two that have it. KEEP=1 leaves them up.
set -euo pipefail
[ "$EUID" = 0 ] || exec tests/tools/as-root.sh "$0" "$@"
stand=$PWD/tests/stand/stand
export STAND_STATE=$PWD/.cache/stand-demo
export ANSIBLE_HOME=$PWD/.cache/demo
mkdir -p "$ANSIBLE_HOME"

title() { printf '\n== %s\n' "$*"; }
play() { # LOG
  (cd playbooks && "$stand" control ansible-playbook install_flash_attn.yml -i "$ANSIBLE_HOME/gpu_hosts") | tee "$1"
}
first=$ANSIBLE_HOME/first.log
again=$ANSIBLE_HOME/again.log
ln -sfn "$stand" "$ANSIBLE_HOME/gpu_hosts" # the stand is its own inventory

title "Two nodes with torch, behind an air gap"
"$stand" prepare torch
"$stand" down
[ "${KEEP:-}" = 1 ] || trap '"$stand" down' EXIT
"$stand" up n01=torch n02=torch
"$stand" prove

title "ansible-playbook install_flash_attn.yml -i gpu_hosts"
play "$first"

title "The same again: nothing changes"
play "$again"
if grep -E 'changed=[1-9]' "$again"; then
  echo "The second run changed something." >&2
  exit 1
fi

title "The air gap still holds"
"$stand" prove

title "What was found on each node, what was installed and from where"
sed -n '/Report what was found/,/^PLAY RECAP/{/^ok:/,/^}/p}' "$first"
if [ "${KEEP:-}" = 1 ]; then
  printf '\nThe nodes are up. STAND_STATE=%q %q ssh n01 logs in to one, down stops them.\n' "$STAND_STATE" "$stand"
fi
