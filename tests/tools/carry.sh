#!/usr/bin/env bash
# carry.sh: brings the collection and what it needs to a control node without network, by the very lines of docs/carrying.md
set -euo pipefail
scratch=$PWD/.build/carry
rm -rf "$scratch"
mkdir -p "$scratch"/{clone,home}
tests/tools/copy-tree.sh "$scratch/clone"

lines() { # outside|inside -> what the documentation types there
  sed -n '/^## The control node inside/,/^## [^T]/p' docs/carrying.md | sed -nE "s/^$1\\$ +//p"
}
outside=$(lines outside) inside=$(lines inside)
[ -n "$outside" ] && [ -n "$inside" ]

(cd "$scratch/clone" && bash -euxc "$outside")
# without network, and without what is set outside
unshare=(unshare --net)
[ "$EUID" = 0 ] || unshare+=(--map-root-user)
check='ansible-playbook --syntax-check --inventory node, airgap.torch_extensions.install_flash_attn'
(cd "$scratch" && "${unshare[@]}" env --ignore-environment HOME="$scratch/home" PATH="$PATH" bash -euxc "$inside
$check")
