#!/usr/bin/env bash
# floor.sh WHEEL AT_ONCE: puts WHEEL onto every node of the stand and tries it out, with as little as that takes: one ssh
# for each node, AT_ONCE of them at a time.
set -euo pipefail
state=${STAND_STATE:?}
export wheel=$1 key=$state/key known_hosts=$state/known_hosts ssh=$state/ssh

node() { # ADDRESS
  # shellcheck disable=SC2029 # the name of the wheel is known here
  "$ssh" -i "$key" -o IdentitiesOnly=yes -o BatchMode=yes -o GlobalKnownHostsFile=/dev/null \
    -o UserKnownHostsFile="$known_hosts" "root@$1" "
      cat >'/root/${wheel##*/}' &&
      /opt/venv/bin/pip install --quiet --no-compile --no-index --no-deps '/root/${wheel##*/}' &&
      /opt/venv/bin/python -c 'import torch, flash_attn' && echo $1 done" <"$wheel"
}
export -f node

cut -d' ' -f2 "$state/nodes" | xargs -P "$2" -I ADDRESS bash -euc 'node ADDRESS'
