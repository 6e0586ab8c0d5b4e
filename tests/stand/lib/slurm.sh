# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A Slurm cluster of nodes: munged on all of them, slurmctld on one that is no compute node, slurmd on the others. They are
# in the nodes' own process tables and die with them.

SLURMCTLD_PORT=6817

cmd_slurm() { # CONTROLLER NODE..
  [ $# -ge 2 ] || usage
  local controller=$1 name
  for name; do
    need_node "$name"
    [[ $(node "$name") =~ " slurm"(,.*)?$ ]] || die "$name has no Slurm: it is not of layer slurm"
  done
  shift
  [[ " $* " != *" $controller "* ]] || die "$controller is the controller and cannot be a compute node as well"
  configure_slurm "$controller" "$@"
  start_slurm "$controller" slurmctld "$controller"
  wait_for "$(address "$controller")" "$SLURMCTLD_PORT" "$(slurm_log "$controller" slurmctld)"
  start_slurm "$controller" slurmd "$@"
  wait_for_idle "$controller" "$@"
}

# slurm_log NODE DAEMON: its log, seen from outside the node, as `serve` names logs
slurm_log() { echo "$1/upper/var/log/slurm/$2"; }

# configure_slurm CONTROLLER NODE..: makes what all of them get, in a folder of the controller's
configure_slurm() {
  local controller=$1 name folder=$STATE/$1/slurm
  mkdir -p "$folder"
  # the key stays as it is: with another one all daemons would have to be started again
  [ -e "$folder/munge.key" ] || openssl rand -out "$folder/munge.key" 1024
  {
    echo '127.0.0.1 localhost'
    for name; do echo "$(address "$name") $name"; done
  } >"$folder/hosts"
  shift
  {
    sed "s|@CONTROLLER@|$controller|g; s|@ADDRESS@|$(address "$controller")|g" "$STAND/servers/slurm.conf"
    for name; do echo "NodeName=$name NodeAddr=$(address "$name") CPUs=1"; done
    echo "PartitionName=gpu Nodes=$(IFS=,; echo "$*") Default=YES"
  } >"$folder/slurm.conf"
}

# start_slurm CONTROLLER DAEMON NODE..: at once on all of the nodes
start_slurm() {
  local controller=$1 daemon=$2 name script
  shift 2
  script=$(cat "$STAND/lib/slurm_node.sh")
  for name; do
    tar -cC "$STATE/$controller/slurm" . | cmd_ssh "$name" "DAEMON=$daemon; $script" >"$STATE/$name/$daemon.log" 2>&1 ||
      echo "exit status $?" >>"$STATE/$name/$daemon.log" &
  done
  wait
  for name; do
    [ -s "$STATE/$name/$daemon.log" ] || continue
    cat "$STATE/$name/$daemon.log" >&2
    slurm_failed "$name" "$daemon" "does not start on $name"
  done
}
slurm_failed() { # NODE DAEMON WHY
  tail -n 5 "$STATE/$(slurm_log "$1" "$2").log" >&2 || true
  die "$2 $3"
}

# wait_for_idle CONTROLLER NODE..: until Slurm would give all of the nodes away. What was drained is used again; and so is
# a node that waits, a minute long, for the end of a job on another one whose slurmd has died.
wait_for_idle() {
  local controller=$1 busy
  # shellcheck disable=SC2016 # expanded on the node
  busy=$(cmd_ssh "$controller" '
    for try in $(seq 150); do
      busy=$(sinfo --noheader --Node --format="%N %T" | grep -v " idle$") || exit 0
      echo "$busy" | while read -r node state; do
        [ "$try $state" != "30 completing" ] || scontrol update "nodename=$node" state=down reason=stuck
        case $state in drain* | down) scontrol update "nodename=$node" state=resume ;; esac
      done
      sleep 0.1
    done
    echo "$busy"')
  [ -z "$busy" ] || slurm_failed "${busy%% *}" slurmd "does not get its node idle: $(paste -sd, <<<"$busy")"
}
