# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The world: one process with its own network, mount and PID namespaces. Everything that runs lives in it and dies with
# it. Its network namespace is the control node's; the host's own gets no interface, address or route.

# benchmark addresses (RFC 2544), seen inside the world only
LAN=198.18.77 DMZ=198.18.78 WAN=198.18.79
PROXY=http://$DMZ.2:3128
INDEX=$LAN.2
ARTEFACTS=$LAN.3
NAMES='github.com api.github.com release-assets.githubusercontent.com wheels.astral.sh index.example'

# world: the PID of the world, if it still is the process that was started and not a namesake
world() {
  local pid namespace
  read -r pid namespace 2>/dev/null <"$STATE/world" &&
    [ "$(readlink "/proc/$pid/ns/net")" = "$namespace" ] && echo "$pid"
}
need_world() { world >/dev/null || die "nothing is up: stand up NAME=LAYER"; }

# inside CMD..: on the control node's network, with the world's mounts
inside() { nsenter -t "$(world)" -n -m -- "$@"; }
# serve NAMESPACE LOG CMD..: starts a daemon that dies with the world
serve() {
  local namespace=$1 log=$2
  shift 2
  setsid nsenter -t "$(world)" -n -m -p -- ip netns exec "$namespace" "$@" </dev/null >"$STATE/$log.log" 2>&1 &
}
# wait_for ADDRESS PORT LOG [NAMESPACE]: until a server listens there
wait_for() {
  local via=(inside)
  [ -z "${4:-}" ] || via+=(ip netns exec "$4")
  for _ in {1..200}; do
    "${via[@]}" bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null && return
    sleep 0.03
  done
  tail -n 5 "$STATE/$3.log" >&2
  die "nothing listens at $1:$2"
}

start_world() {
  delete_state # of a world that died, e.g. with the machine
  trap cmd_down EXIT # half a world is none
  mkdir -p "$(dirname "$STATE")"
  mkdir -m 700 "$STATE"
  mkdir "$STATE/wan" "$STATE/tmp"
  mkdir -m 700 "$STATE/shares" # it lies over the nodes' own folder, and its mode counts: no user may look for shares there
  touch "$STATE/nodes" "$STATE/known_hosts"
  ssh-keygen -q -t ed25519 -N '' -C stand -f "$STATE/key"
  make_certificates
  make_secret token
  make_secret proxy-password
  echo normal >"$STATE/api-mode"
  stock_github

  # PID 1 of a private PID namespace: when it dies, every process in there dies
  setsid unshare -n -m -p --fork --kill-child=KILL sleep infinity </dev/null >"$STATE/world.log" 2>&1 &
  local outer=$! pid=
  until [ -n "$pid" ]; do pid=$(pgrep -P "$outer") || sleep 0.02; done
  echo "$pid $(readlink "/proc/$pid/ns/net")" >"$STATE/world"
  printf '#!/bin/sh\nexec nsenter -t %s -n -- ssh -F /dev/null "$@"\n' "$pid" >"$STATE/ssh"
  chmod +x "$STATE/ssh"

  printf '127.0.0.1 localhost\n%s.2 %s\n' "$WAN" "$NAMES" >"$STATE/hosts"
  mkdir -p /run/netns
  inside sh -e <<NETWORK
    mount -t tmpfs tmpfs /run/netns
    # what is mounted below it later, nodes see, too
    mount --bind $STATE/shares $STATE/shares
    mount --make-shared $STATE/shares
    # only the servers see these; what runs on the control node or on the host sees the host's own
    mount --bind $STATE/hosts /etc/hosts
    [ ! -e /etc/resolv.conf ] || mount --bind /dev/null /etc/resolv.conf

    echo 0 >/proc/sys/net/ipv4/ip_forward
    ip link set lo up
    ip link add lan type bridge
    ip addr add $LAN.1/24 dev lan
    ip link set lan up
    for namespace in dmz wan; do ip netns add \$namespace; ip -n \$namespace link set lo up; done
    ip link add dmz type veth peer name control netns dmz
    ip addr add $DMZ.1/24 dev dmz
    ip link set dmz up
    ip -n dmz addr add $DMZ.2/24 dev control
    ip -n dmz link set control up
    ip -n dmz link add wan type veth peer name dmz netns wan
    ip -n dmz addr add $WAN.1/24 dev wan
    ip -n dmz link set wan up
    ip -n wan addr add $WAN.2/24 dev dmz
    ip -n wan link set dmz up
    for namespace in dmz wan; do ip netns exec \$namespace sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward'; done
NETWORK

  sed "s|@STATE@|$STATE|g" "$STAND/servers/nginx.conf" >"$STATE/nginx.conf"
  serve wan nginx nginx -c "$STATE/nginx.conf"
  serve wan github-api /usr/bin/python3 "$STAND/servers/github_api.py" 8000 "$STATE"
  serve wan faulty /usr/bin/python3 "$STAND/servers/faulty.py" 8001 8002 "$STATE/faults"
  start_proxy tinyproxy 3128
  start_proxy tinyproxy-password 3129 "BasicAuth fleet $(cat "$STATE/proxy-password")"
  wait_for "$WAN.2" 443 nginx dmz
  wait_for 127.0.0.1 8000 github-api wan
  wait_for 127.0.0.1 8001 faulty wan
  wait_for "$DMZ.2" 3128 tinyproxy
  wait_for "$DMZ.2" 3129 tinyproxy-password
  trap - EXIT
}

start_proxy() { # NAME PORT [LINE]
  {
    sed "s|@ADDRESS@|$DMZ.2|g; s|@CLIENTS@|$DMZ.0/24|g; s|@PORT@|$2|g" "$STAND/servers/tinyproxy.conf"
    echo "${3:-}"
  } >"$STATE/$1.conf"
  serve dmz "$1" tinyproxy -d -c "$STATE/$1.conf"
}

make_secret() { (umask 077; openssl rand -hex 20 >"$STATE/$1"); }

# A CA of this run and a certificate for the names of wan. The CA's key can make any name's certificate, so it stays in
# the private folder, and nothing but what is told to trusts it.
make_certificates() {
  make_ca ca 'CA of the stand'
  # shellcheck disable=SC2086 # one word a name
  make_certificate ca wan "$(printf 'DNS:%s\n' $NAMES | paste -sd,)"
}
make_ca() { # NAME SUBJECT
  openssl req -config "$STAND/servers/openssl.cnf" -x509 -extensions ca -subj "/CN=$2" -days 30 \
    -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$STATE/$1.key" -out "$STATE/$1.pem" 2>>"$STATE/openssl.log"
}
make_certificate() { # CA NAME SUBJECTS
  local config=$STATE/$2.cnf subject=${3%%,*}
  sed "s|@NAMES@|$3|" "$STAND/servers/openssl.cnf" >"$config"
  openssl req -config "$config" -subj "/CN=${subject#*:}" \
    -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$STATE/$2.key" -out "$STATE/$2.csr" 2>>"$STATE/openssl.log"
  openssl x509 -req -in "$STATE/$2.csr" -CA "$STATE/$1.pem" -CAkey "$STATE/$1.key" -CAcreateserial -days 30 \
    -extfile "$config" -extensions server -out "$STATE/$2.pem" 2>>"$STATE/openssl.log"
}

stock_github() {
  # copies, so that `prepare` may build other contents while this world runs; with their dates, see publish.py
  cp -a "$(shop)/releases" "$(shop)/astral" "$(shop)/wheels" "$STATE/wan"
  cp -a "$(shop)/index" "$STATE/wan/files"
  if built python; then
    cp -a "$(shop python)/releases" "$STATE/wan"
    cp -a "$(shop python)/index/." "$STATE/wan/files"
    cp -a "$(shop python)/build" "$STATE/build"
  fi
  # what `prove` asks for, which is not counted among the requests
  mkdir -p "$STATE/wan/releases/stand/prove/v1"
  echo reached >"$STATE/wan/releases/stand/prove/v1/air-gap-proof"
  /usr/bin/python3 "$STAND/servers/publish.py" "$STATE/wan"
}

cmd_publish() {
  [ $# -ge 3 ] || usage
  need_world
  local folder=$STATE/wan/releases/$1/$2 file
  [[ $1 == */* ]] || die "publish needs a repository as OWNER/NAME, not $1"
  shift 2
  for file; do [ -f "$file" ] || die "no such file: $file"; done
  mkdir -p "$folder"
  for file; do ln -sfn "$(realpath "$file")" "$folder/"; done
  publish_anew
}
# What is published for layer aarch64, as soon as there is such a node: fleets without one need not look at it.
publish_aarch64() {
  cp -a "$(shop aarch64)/releases" "$STATE/wan"
  publish_anew
}
# What a build takes from the control node's index, as soon as there is a node that builds.
publish_builder() {
  local offered=$STATE/wan/building
  # 100 MB: links, unless the cache is on another file system
  [ -d "$offered" ] || cp -al "$(shop builder)/index" "$offered" 2>/dev/null ||
    { rm -rf "$offered" && cp -a "$(shop builder)/index" "$offered"; }
  publish_anew
}
publish_anew() {
  /usr/bin/python3 "$STAND/servers/publish.py" "$STATE/wan"
  nsenter -t "$(world)" -n -m -p -- nginx -c "$STATE/nginx.conf" -s reload 2>>"$STATE/nginx.log"
  sleep 0.5 # a reload happens behind our back
}

cmd_api() { # normal|limited|down
  [[ $# = 1 && $1 =~ ^(normal|limited|down)$ ]] || usage
  need_world
  echo "$1" >"$STATE/api-mode"
}

cmd_faults() { # cut=BYTES|stall=BYTES|slow=RATE|corrupt|html|none
  [[ $# = 1 && $1 =~ ^((cut|stall|slow)=[1-9][0-9]*|corrupt|html|none)$ ]] || usage
  need_world
  if [ "$1" = none ]; then rm -f "$STATE/faults"; else echo "$1" >"$STATE/faults"; fi
}

# The site's own server, with a CA of its own.
cmd_artefacts() { # [stop|start|requests [PATTERN]]
  need_world
  case ${1:-} in
    '' | start) start_artefacts ;;
    stop) stop_artefacts ;;
    requests)
      [ -e "$STATE/artefacts.requests" ] || die "there is no such machine: stand artefacts"
      grep -e "${2:-}" "$STATE/artefacts.requests" || true
      ;;
    *) usage ;;
  esac
}
start_artefacts() {
  [ -e "$STATE/artefacts" ] || make_artefacts
  if ! artefacts_answer; then
    serve artefacts artefacts nginx -c "$STATE/artefacts.conf"
    wait_for "$ARTEFACTS" 8443 artefacts
  fi
  local folder
  for folder in open private readonly full; do echo "$folder https://$ARTEFACTS:8443/$folder/"; done
  echo "plain http://$ARTEFACTS:8080/open/"
}
artefacts_answer() { inside bash -c "exec 3<>/dev/tcp/$ARTEFACTS/8443" 2>/dev/null; }
stop_artefacts() {
  # its PID is that of the world's own processes
  ! artefacts_answer || nsenter -t "$(world)" -n -m -p -- nginx -c "$STATE/artefacts.conf" -s stop 2>>"$STATE/artefacts.log"
  while artefacts_answer; do sleep 0.02; done
}
make_artefacts() {
  nginx -V 2>&1 | grep -q http_dav_module || die "the nginx of this host has no WebDAV: install another one (nginx-core)"
  local who
  mkdir -p "$STATE"/artefacts/{open,private,readonly,small,body}
  nsenter -t "$(world)" -m -- mount -t tmpfs -o size=8m tmpfs "$STATE/artefacts/small"
  nsenter -t "$(world)" -m -- mkdir "$STATE/artefacts/small/full"
  make_ca site-ca 'CA of the site'
  make_certificate site-ca artefacts "DNS:artefacts.example,IP:$ARTEFACTS"
  for who in reader writer; do
    make_secret "artefacts-$who"
    echo "$who:$(openssl passwd -apr1 -stdin <"$STATE/artefacts-$who")" >"$STATE/artefacts-$who.htpasswd"
  done
  cat "$STATE"/artefacts-{reader,writer}.htpasswd >"$STATE/artefacts-both.htpasswd"
  : >"$STATE/artefacts.requests"
  join_lan artefacts "$ARTEFACTS"
  sed "s|@STATE@|$STATE|g; s|@ADDRESS@|$ARTEFACTS|g" "$STAND/servers/artefacts.conf" >"$STATE/artefacts.conf"
}

# share FILESYSTEM[,ro][,SIZE] PATH NODE..: a file system that these nodes share, at PATH
cmd_share() {
  [ $# -ge 3 ] || usage
  need_world
  [[ $1 =~ ^([a-z][a-z0-9-]*)(,ro)?(,[1-9][0-9]*[kmg])?$ ]] || die "not FILESYSTEM[,ro][,SIZE]: $1"
  local name=${BASH_REMATCH[1]} mode=${BASH_REMATCH[2]:-,rw} size=${BASH_REMATCH[3]#,} path=$2 node
  shift 2
  check_path "$path"
  for node; do need_node "$node"; done
  make_share "$name" "$size"
  on_nodes "$name cannot be mounted at $path on" "$@" -- "$path" "/.shares/$name" "${mode#,}" <<'SCRIPT'
      if mountpoint -q "$1"; then
        [ "$(stat -c %d:%i "$1")" = "$(stat -c %d:%i "$2")" ] || { echo "something else is mounted there" >&2; exit 1; }
      else
        mkdir -p "$1"
        mount --bind "$2" "$1"
      fi
      mount -o "remount,bind,$3" "$1"
SCRIPT
}
make_share() { # NAME SIZE
  local folder=$STATE/shares/$1 had
  if [ -e "$folder" ]; then
    had=$(cat "$STATE/share-$1")
    [ -z "$2" ] || [ "$2" = "$had" ] || die "$1 is there already, ${had:-without a size}"
    return
  fi
  mkdir "$folder"
  # only the world and its nodes see what is in a tmpfs, for the host has other mounts
  [ -z "$2" ] || inside mount -t tmpfs -o "mode=755,size=$2" tmpfs "$folder"
  echo "$2" >"$STATE/share-$1"
}
cmd_unshare() { # PATH NODE..
  [ $# -ge 2 ] || usage
  local path=$1 node
  shift
  check_path "$path"
  for node; do need_node "$node"; done
  # shellcheck disable=SC2016 # expanded on the nodes
  on_nodes "$path cannot be unmounted on" "$@" -- "$path" <<<'umount "$1"'
}
check_path() { [[ $1 =~ ^/[A-Za-z0-9._/-]+$ ]] || die "not a path of plain characters: $1"; }
# on_nodes COMPLAINT NODE.. -- ARG..: runs the script on standard input on all of the nodes at once, as root
on_nodes() {
  local complaint=$1 script nodes=() node processes=() process failed=0
  shift
  script=$(cat)
  while [ "$1" != -- ]; do nodes+=("$1"); shift; done
  for node in "${nodes[@]}"; do
    { cmd_ssh "$node" sh -es "$@" <<<"$script" || die "$complaint $node"; } &
    processes+=($!)
  done
  for process in "${processes[@]}"; do wait "$process" || failed=1; done
  return "$failed"
}

cmd_requests() {
  [ $# -le 1 ] || usage
  need_world
  grep -e "${1:-}" "$STATE/wan/requests.log" || true
}

cmd_traffic() {
  need_world
  # /proc/net is that of the network of whoever reads it
  # shellcheck disable=SC2016 # awk's own
  inside awk '$1 ~ /^(lan|dmz):$/ { print substr($1, 1, length($1) - 1), $10, $2 }' /proc/net/dev
}

join_lan() { # NAME ADDRESS: a machine of that name, which is nothing but a network
  inside sh -e <<NETWORK
    ip netns add $1
    ip link add name $1 type veth peer name eth0 netns $1
    ip link set dev $1 master lan up
    ip -n $1 link set lo up
    ip -n $1 addr add $2/24 dev eth0
    ip -n $1 link set eth0 up
NETWORK
}

cmd_index() {
  need_world
  if ! inside ip netns pids index >/dev/null 2>&1; then
    join_lan index "$INDEX"
    serve index index "$TOOLS/bin/pypi-server" run --interface "$INDEX" --port 8080 \
      --disable-fallback --hash-algo sha256 --backend simple-dir "$STATE/wan/files"
    /usr/bin/python3 "$STAND/servers/dialects.py" "http://$INDEX:8081" "$STATE/dialects" "$STATE/wan/files" "$STATE/build"
    sed "s|@STATE@|$STATE|g; s|@ADDRESS@|$INDEX|g" "$STAND/servers/dialects.conf" >"$STATE/dialects.conf"
    serve index dialects nginx -c "$STATE/dialects.conf"
  fi
  wait_for "$INDEX" 8080 index
  wait_for "$INDEX" 8081 dialects
  echo "http://$INDEX:8080/simple/"
  echo "http://$INDEX:8081/DIALECT/simple/"
}

# Only the network is the control node's; files, and with them the resolver's configuration, are the host's.
cmd_control() {
  [ $# -gt 0 ] || usage
  need_world
  local direct=$LAN.0/24,$LAN.1,$INDEX,$ARTEFACTS,localhost,127.0.0.1
  nsenter -t "$(world)" -n -- env \
    -u REQUESTS_CA_BUNDLE -u CURL_CA_BUNDLE -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL -u PIP_NO_INDEX -u ALL_PROXY -u all_proxy \
    PIP_CONFIG_FILE=/dev/null PIP_INDEX_URL=https://index.example/simple/ PIP_CERT="$STATE/ca.pem" \
    http_proxy="$PROXY" https_proxy="$PROXY" HTTP_PROXY="$PROXY" HTTPS_PROXY="$PROXY" \
    no_proxy="$direct" NO_PROXY="$direct" "$@"
}

cmd_down() {
  local pid
  if pid=$(world); then
    kill -KILL "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  fi
  delete_state
}
delete_state() {
  [ -e "$STATE" ] || return 0
  # an own folder, not one that STAND_STATE names by mistake
  [ -e "$STATE/known_hosts" ] || die "$STATE is not a folder of the stand's"
  rm -rf "$STATE"
}
