#!/usr/bin/env bash
# knobs.sh [NODES] [RUNS]: what Ansible's own settings make of the role, each against Ansible as it comes, in turns. After `make bench`,
# which makes its wheel, its cache and .venv-bench.
set -euo pipefail
[ "$EUID" = 0 ] || exec tests/tools/as-root.sh "$0" "$@"
number=${1:-32} runs=${2:-3}
stand=tests/stand/stand
export STAND_STATE=$PWD/.cache/stand-bench PATH=$PWD/.venv-bench/bin:$PATH
export ANSIBLE_CONFIG=$PWD/benchmarks/plays/ansible.cfg ANSIBLE_HOME=$PWD/.cache/bench/ansible
export ANSIBLE_COLLECTIONS_PATH=$PWD/.ansible/collections
trap '$stand down' EXIT
$stand down
mapfile -t nodes < <(seq -f 'n%02g=torch' "$number")
$stand up "${nodes[@]}"
$stand publish example/flash-attention-large v2.8.3.post2 .cache/bench/large/*.whl

role=benchmarks/plays/role.yml throttled=.cache/bench/throttled.yml
sed 's/^  gather_facts: false$/&\n  throttle: 2/' $role >$throttled # no setting of Ansible's, but the play's
play() { $stand control ansible-playbook -i $stand "$@" >.cache/bench/knobs.log || { cat .cache/bench/knobs.log; exit 1; }; }
forget() {
  $stand control ansible all -i $stand --forks 8 -m ansible.builtin.command \
    -a '/opt/venv/bin/pip uninstall --quiet --yes flash-attn einops' >/dev/null
}
timed() { # LABEL [NAME=VALUE..] CMD..: prints LABEL and the milliseconds
  local label=$1 start
  shift
  rm -f "$STAND_STATE"/ssh-* # the sockets of connections that are kept for a minute
  start=$(date +%s%N)
  "$@"
  echo "$label $((($(date +%s%N) - start) / 1000000))"
}
with() { # NAME=VALUE CMD..
  local -x "${1?}"
  shift
  "$@"
}
play --forks 8 $role # all have it from here on

{
  for ((run = 0; run < runs; run++)); do
    for forks in 20 50; do
      timed "idle,forks=$forks changed" play --forks "$forks" $role
      timed "idle,forks=$forks default" play $role
    done
    timed 'idle,strategy=free changed' with ANSIBLE_STRATEGY=free play $role
    timed 'idle,strategy=free default' play $role
    timed 'idle,become,pipelining changed' with ANSIBLE_PIPELINING=false play --user deploy --become $role
    timed 'idle,become,pipelining default' play --user deploy --become $role
    for what in forks=20 throttle=2 strategy=free; do
      forget
      case $what in
        forks=*) timed "first,$what changed" play --forks "${what#*=}" $role ;;
        throttle=*) timed "first,$what changed" play $throttled ;;
        strategy=*) timed "first,$what changed" with "ANSIBLE_STRATEGY=${what#*=}" play $role ;;
      esac
      forget
      timed "first,$what default" play $role
    done
  done
} | python3 benchmarks/ratio.py ms
