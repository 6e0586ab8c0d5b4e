# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What a node's filesystem is made of: a read-only base (a release of the host's distribution) and layers, trees that
# are laid over it. A folder that exists is complete: each is built beside its place and moved there.

TORCH=2.13.0
LAYERS=(none cpu torch slurm old broken new python)

own_release() { echo "$VERSION_CODENAME"; }
# another release of the same distribution, so that a fleet has different Pythons and glibcs
other_releases() {
  case $(own_release) in
    bookworm) echo trixie bullseye ;;
    trixie) echo bookworm ;;
    jammy) echo noble ;;
    noble) echo jammy ;;
  esac
}

# release_of LAYER; fails where it cannot be had
release_of() {
  case $1 in
    new) cat "$CACHE/other-release" 2>/dev/null ;;
    none | cpu | torch | slurm | old | broken | python) own_release ;;
    *) die "no layer $1 (there are: ${LAYERS[*]})" ;;
  esac
}
# stack LAYER: the folders that overlayfs lays over each other, uppermost first
stack() {
  local home
  home=$CACHE/$(release_of "$1")
  case $1 in
    none) echo "$home/none:$home/base" ;;
    torch) echo "$home/torch-$TORCH:$home/cpu-$TORCH:$home/none:$home/base" ;;
    slurm) echo "$home/slurm-$TORCH:$home/torch-$TORCH:$home/cpu-$TORCH:$home/none:$home/base" ;;
    cpu) echo "$home/cpu-$TORCH:$home/none:$home/base" ;;
    python) echo "$home/python-$(environments_key):$home/pythons-$(environments_key):$home/none:$home/base" ;;
    *) echo "$home/$1:$home/none:$home/base" ;;
  esac
}
built() {
  local stack
  stack=$(stack "$1" 2>/dev/null) && [ -d "${stack%%:*}" ]
}
cmd_has() { [ $# = 1 ] || usage; built "$1"; }

# python_tag RELEASE: cp311
python_tag() { cat "$CACHE/$1/python-tag"; }

cmd_prepare() {
  local layer
  [ $# -gt 0 ] || set -- "${LAYERS[@]}"
  for layer; do release_of "$layer" >/dev/null || [ "$layer" = new ]; done
  mkdir -p "$CACHE"
  install_packages
  make_tools
  for layer; do prepare_layer "$layer"; done
  # the servers offer real wheels, which are built against the real torch
  prepare_layer cpu
  prepare_wheels
  ! built python || prepare_wheels python
}

prepare_layer() {
  built "$1" && return
  local release pythons
  case $1 in
    new) prepare_other_base || return 0 ;;
    *) prepare_base "$(own_release)" || die "cannot build a base of $(own_release)" ;;
  esac
  release=$(release_of "$1")
  [ -d "$CACHE/$release/none" ] || step "layer none ($release)" lay none "$release"
  case $1 in
    none) ;;
    torch) prepare_layer cpu; step "layer torch" lay torch "$release" ;;
    slurm)
      prepare_layer torch
      if step "downloading Slurm ($release)" download_slurm "$release"; then
        step "layer slurm" lay slurm "$release"
      else
        say "Slurm cannot be had from this host's archive: layer slurm is not built"
      fi
      ;;
    python)
      pythons=$CACHE/$release/pythons-$(environments_key)
      [ -d "$pythons" ] || step "Pythons of this host" gather_pythons "$pythons"
      step "layer python" lay python "$release"
      ;;
    *) step "layer $1" lay "$1" "$release" ;;
  esac
}

prepare_other_base() {
  local release
  for release in $(other_releases); do
    prepare_base "$release" && echo "$release" >"$CACHE/other-release" && return
  done
  say "no other release can be had from this host's archive: layer new is not built"
  return 1
}

prepare_base() { # RELEASE
  [ -d "$CACHE/$1/base" ] && return
  step "base of $1" build_base "$1" && return
  rm -rf "$CACHE/$1/base.tmp"
  return 1
}
build_base() { # RELEASE; its steps are chained, for it is called where errexit is off
  local base=$CACHE/$1/base tmp=$CACHE/$1/base.tmp
  mkdir -p "$CACHE/$1" && rm -rf "$tmp" &&
    archive "$1" >"$CACHE/$1/sources.list" &&
    mmdebstrap --quiet --variant=minbase --dpkgopt='path-exclude=/usr/share/doc/*' \
      --keyring="/usr/share/keyrings/$ID-archive-keyring.gpg" \
      --include=openssh-server,python3,python3-venv,sudo,iproute2 \
      "$1" "$tmp" "$CACHE/$1/sources.list" &&
    chroot "$tmp" sh -ec '
      useradd -m -s /bin/bash deploy
      useradd -m -s /usr/sbin/nologin svc
      usermod -p "*" deploy   # no password, but not locked: sshd without PAM refuses locked users
      echo "deploy ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/deploy
      rm -rf /etc/ssh/ssh_host_* /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
      rm -f /etc/resolv.conf; : >/etc/resolv.conf
      mkdir -p /run/sshd' &&
    chroot "$tmp" python3 -c 'import sys; print("cp%d%d" % sys.version_info[:2])' >"$CACHE/$1/python-tag" &&
    mv -T "$tmp" "$base"
}

# lay LAYER RELEASE: builds a layer by running layers/LAYER in a chroot of what lies under it, without any network
lay() {
  local stack layer below tmp=$CACHE/$2/layer.tmp
  stack=$(case $1 in none) echo "$CACHE/$2/none:$CACHE/$2/base" ;; *) stack "$1" ;; esac)
  layer=${stack%%:*} below=${stack#*:}
  rm -rf "$tmp"
  mkdir -p "$tmp/upper/opt" "$tmp/work" "$tmp/root" "$CACHE/downloads"
  case $1 in
    cpu) download_torch ;;
    python) download_pips ;;
  esac
  # the chroot has no compiler: the libraries of the small trees are made here
  c10_library ErrorC2ENS_14SourceLocationESs "$tmp/c10-old.so"
  c10_library ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE "$tmp/c10-new.so"
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare -m -n -- sh -ec '
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
    cd "$2/root"
    mount -t proc proc proc
    mount -t tmpfs tmpfs tmp
    mkdir tmp/downloads tmp/layers
    mount --bind "$3/downloads" tmp/downloads
    mount --bind "$4/layers" tmp/layers
    cp "$2"/c10-*.so tmp
    exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TORCH="$6" sh -e "/tmp/layers/$5"
    ' - "$below" "$tmp" "$CACHE" "$STAND" "$1" "$TORCH"
  rm -rf "$tmp/upper/tmp" "$tmp/upper/proc" "$tmp/upper/root"
  mv -T "$tmp/upper" "$layer"
  rm -rf "$tmp"
}

# Slurm and what of its dependencies the base lacks, as Debian packages: apt here, on the base's list of what is installed
# and from the archive that the base is of. Its steps are chained, for it is called where errexit is off.
download_slurm() { # RELEASE
  local debs=$CACHE/downloads/slurm-$1 tmp=$CACHE/downloads/slurm-$1.tmp base=$CACHE/$1/base
  local apt=(
    apt-get -qq -o Dir::State="$tmp/state" -o Dir::State::status="$base/var/lib/dpkg/status" -o Dir::Cache="$tmp/cache"
    -o Dir::Etc::SourceList="$CACHE/$1/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Trusted=/dev/null -o Dir::Etc::TrustedParts="$tmp/keys"
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o APT::Sandbox::User=root # _apt may have no way to the cache
  )
  rm -rf "$debs" "$tmp" && # as of the last base: not kept, for the next one may lack others
    mkdir -p "$tmp/state/lists/partial" "$tmp/cache/archives/partial" "$tmp/keys" &&
    cp "/usr/share/keyrings/$ID-archive-keyring.gpg" "$tmp/keys" &&
    "${apt[@]}" update &&
    "${apt[@]}" install --yes --no-install-recommends --download-only slurmd slurmctld slurm-client munge >/dev/null &&
    rm -rf "$tmp/cache/archives/"{partial,lock} &&
    mv -T "$tmp/cache/archives" "$debs" &&
    rm -rf "$tmp"
}

# c10_library SYMBOL FILE: a tiny shared library that exports what tells the C++ ABI of a libc10.so
c10_library() {
  echo 'void error(void) __asm__("_ZN3c105'"$1"'"); void error(void) {}' | gcc -shared -fPIC -x c - -o "$2"
}

# torch's CPU build and what it needs. Plain pip finds one on some machines; elsewhere it would find the CUDA build
# of several GB, so ask first and turn to PyTorch's own CPU index then.
download_torch() {
  local index=() found
  compgen -G "$CACHE/downloads/torch-$TORCH+cpu-*.whl" >/dev/null && return
  found=$("$TOOLS/bin/pip" install -qq --dry-run --ignore-installed --no-deps --report - "torch==$TORCH" |
    "$TOOLS/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["install"][0]["download_info"]["url"])')
  case $found in *[+B]cpu-*) ;; *) index=(--index-url https://download.pytorch.org/whl/cpu) ;; esac
  step "downloading torch $TORCH for CPU" \
    "$TOOLS/bin/pip" download -qq --only-binary :all: "${index[@]}" -d "$CACHE/downloads" "torch==$TORCH"
}
