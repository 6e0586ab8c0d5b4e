# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The nodes: each has its own files (an overlay over its layer), process table, network card and sshd.

cmd_up() {
  [ $# -gt 0 ] || usage
  local spec name layer missing=() new=()
  for spec; do
    [[ $spec =~ ^([a-z][a-z0-9-]{0,11})=([a-z][a-z0-9]*)(,i686)?(,[1-9][0-9]*[kmg])?$ ]] || die "not NAME=LAYER[,i686][,SIZE]: $spec"
    name=${BASH_REMATCH[1]} layer=${BASH_REMATCH[2]}
    case $name in lan | dmz | wan | index | artefacts | control | lo) die "$name is taken: choose another name" ;; esac
    built "$layer" || missing+=("$layer")
    [[ ! $layer =~ ^(python|aarch64|builder)$ ]] || [ -d "$(shop "$layer")" ] || missing+=("$layer")
  done
  if [ ${#missing[@]} -gt 0 ] || [ ! -d "$(shop)" ]; then
    "$STAND/stand" prepare "${missing[@]:-none}"
    for layer in "${missing[@]}"; do built "$layer" || die "layer $layer cannot be had on this host"; done
  fi
  world >/dev/null || start_world
  [[ " $* " != *=aarch64\ * ]] || publish_aarch64
  [[ " $* " != *=builder\ * ]] || publish_builder
  for spec; do
    name=${spec%%=*}
    case $(node "$name") in
      '') start_node "$name" "${spec#*=}"; new+=("$name") ;;
      "$name "*" ${spec#*=}") ;;
      *) die "$name is up already, with another layer" ;;
    esac
  done
  for name in "${new[@]}"; do wait_for "$(address "$name")" 22 "$name/node"; done
}

# node NAME: its line, NAME ADDRESS LAYER[,i686]
node() { awk -v name="$1" '$1 == name' "$STATE/nodes"; }
address() { node "$1" | cut -d' ' -f2; }
need_node() {
  need_world
  [ -n "$(node "$1")" ] || die "no node $1 (there are: $(cut -d' ' -f1 "$STATE/nodes" | paste -sd' '))"
}

start_node() { # NAME LAYER[,i686][,SIZE]
  local name=$1 layer=${2%%,*} dir=$STATE/$1 number address base
  number=$(wc -l <"$STATE/nodes")
  [ "$number" -lt 240 ] || die "240 nodes is all that the lan holds"
  address=$LAN.$((11 + number))
  base=$CACHE/$(release_of "$layer")/base

  mkdir -p "$dir"/{upper/etc/ssh,upper/root/.ssh,upper/home/deploy/.ssh,work,root}
  chmod 700 "$dir"/upper/{root,root/.ssh,home/deploy,home/deploy/.ssh}
  # sudo looks up the node's own name, and waits for long where it finds none
  echo "127.0.0.1 localhost $name" >"$dir/upper/etc/hosts"
  echo "$name" >"$dir/upper/etc/hostname"
  cp "$STATE/key.pub" "$dir/upper/root/.ssh/authorized_keys"
  cp "$STATE/key.pub" "$dir/upper/home/deploy/.ssh/authorized_keys"
  chown -R --reference="$base/home/deploy" "$dir/upper/home/deploy"
  ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$dir/upper/etc/ssh/ssh_host_ed25519_key"
  echo "$address $(cut -d' ' -f1,2 "$dir/upper/etc/ssh/ssh_host_ed25519_key.pub")" >>"$STATE/known_hosts"

  inside sh -e <<NETWORK
    ip netns add $name
    ip link add name $name type veth peer name eth0 netns $name
    ip link set dev $name master lan up
    ip -n $name link set lo up
    ip -n $name addr add $address/24 dev eth0
    ip -n $name link set eth0 up
NETWORK
  [[ ! $2 =~ ,([0-9]+[kmg])$ ]] || give_disk "$dir" "${BASH_REMATCH[1]}"
  boot "$name" "$2"
  echo "$name $address $2" >>"$STATE/nodes"
}

# give_disk DIR SIZE: what a node writes goes to a tmpfs of that size, which it may fill. It lives as long as the world, which alone sees it.
give_disk() {
  inside sh -e <<DISK
    mkdir "$1/disk"
    mount -t tmpfs -o "mode=755,size=$2" tmpfs "$1/disk"
    cp -a "$1/upper" "$1/work" "$1/root" "$1/disk"
DISK
}

boot() { # NAME LAYER[,i686][,SIZE]
  local layer=${2%%,*} dir=$STATE/$1 machine emulated
  machine=$(machine_of "$layer")
  [[ ,$2, != *,i686,* ]] || machine=i686
  [[ ! $2 =~ ,[0-9]+[kmg]$ ]] || dir=$dir/disk
  read -ra emulated < <(emulated_if_need_be "$layer"; echo)
  # slave: what is mounted in the world below shares/, the node gets as well
  serve "$1" "$1/node" unshare -m --propagation slave -u -i -p --fork --kill-child=KILL \
    "$STAND/node-init" "$1" "$(stack "$layer")" "$dir" "$machine" "$STATE/shares" "${emulated[@]}"
}

# Power off: nothing is ended in order, and what was in memory is lost, /tmp and mounts too. The page cache is the host's, and stays.
cmd_stop() { # NAME
  [ $# = 1 ] || usage
  need_node "$1"
  local pids
  while pids=$(inside ip netns pids "$1") && [ -n "$pids" ]; do
    # shellcheck disable=SC2086 # one word a process
    kill -KILL $pids 2>/dev/null || true
    sleep 0.02
  done
}
cmd_start() { # NAME
  [ $# = 1 ] || usage
  need_node "$1"
  local address layer
  [ -z "$(inside ip netns pids "$1")" ] || die "$1 is running"
  read -r _ address layer < <(node "$1")
  boot "$1" "$layer"
  wait_for "$address" 22 "$1/node"
}

cmd_list() { need_world; tr , ' ' <"$STATE/nodes"; }
cmd_--list() { need_world; /usr/bin/python3 "$STAND/lib/inventory.py" "$STATE"; }

cmd_ssh() {
  [ $# -gt 0 ] || usage
  need_node "$1"
  local address
  address=$(address "$1")
  shift
  "$STATE/ssh" -i "$STATE/key" -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=5 \
    -o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile="$STATE/known_hosts" "root@$address" "$@"
}

# cable NAME: sets, for its two ends, how to get there and the name of the device
cable() {
  if [ "$1" = wan ]; then
    need_world
    outer=(ip netns exec dmz) device=wan
    inner=(ip netns exec wan) inner_device=dmz
  else
    if [ "$1" = artefacts ]; then [ -e "$STATE/artefacts" ] || die "there is no such machine: stand artefacts"; else need_node "$1"; fi
    outer=() device=$1
    inner=(ip netns exec "$1") inner_device=eth0
  fi
}
cmd_cut() { plug down "$@"; }
cmd_heal() { plug up "$@"; }
plug() { # up|down NAME
  [ $# = 2 ] || usage
  local outer inner device inner_device
  cable "$2"
  inside "${outer[@]}" ip link set dev "$device" "$1"
}
cmd_shape() { # NAME RATE|off
  [ $# = 2 ] || usage
  local outer inner device inner_device
  if [ "$1" = control ]; then # what a bridge itself sends is what its machine sends
    need_world
    shape lan "$2"
  else
    cable "$1"
    shape "$device" "$2" "${outer[@]}"
    shape "$inner_device" "$2" "${inner[@]}"
  fi
}
shape() { # DEVICE RATE|off [CMD..: how to get there]
  local device=$1 rate=$2
  shift 2
  if [ "$rate" = off ]; then
    # what is not limited cannot be deleted
    [[ $(inside "$@" tc qdisc show dev "$device" root) != *tbf* ]] || inside "$@" tc qdisc del dev "$device" root
  else
    inside "$@" tc qdisc replace dev "$device" root tbf rate "$rate" burst 256k latency 100ms
  fi
}
