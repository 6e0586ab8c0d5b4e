# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The proof of the air gap. First what must work, or else a node's failure would prove nothing; then what must not.

cmd_prove() {
  need_world
  local asset=https://github.com/stand/prove/releases/download/v1/air-gap-proof faults=0 sealed=0 name
  fault() { echo "fault: $*"; faults=$((faults + 1)); }

  [ "$(cmd_control curl -sSL --max-time 10 --cacert "$STATE/ca.pem" "$asset")" = reached ] ||
    { echo "the control node does not reach github.com through the proxy: nothing is proven"; return 1; }
  cmd_control curl -s --max-time 2 --noproxy '*' --cacert "$STATE/ca.pem" --resolve "github.com:443:$WAN.2" "$asset" \
    >/dev/null && fault "the control node reaches github.com without the proxy"
  cmd_control getent ahosts github.com >/dev/null && fault "the control node resolves names"

  while read -r name _; do
    cmd_ssh "$name" python3 - "$DMZ.1:22" "$DMZ.2:3128" "$WAN.1:3128" "$WAN.2:443" \
      <"$STAND/lib/prove_node.py" >"$STATE/$name/proof" 2>&1 &
  done <"$STATE/nodes"
  wait
  while read -r name _; do
    if [ "$(cat "$STATE/$name/proof")" = sealed ]; then
      sealed=$((sealed + 1))
    else
      fault "$name: $(paste -sd';' "$STATE/$name/proof")"
    fi
  done <"$STATE/nodes"

  if [ "$faults" = 0 ]; then
    echo "air gap holds: $sealed nodes sealed, control node gets out by the proxy only"
  else
    echo "air gap NOT proven: $faults faults, $sealed nodes sealed"
    return 1
  fi
}
