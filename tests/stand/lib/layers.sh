# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What a node's filesystem is made of: a read-only base (a release of the host's distribution) and layers, trees that
# are laid over it. A folder that exists is complete: each is built beside its place and moved there.

TORCH=2.13.0
TORCH_CUDA=2.14.1
TOOLKIT=$CACHE/downloads/cuda-13.0
# but for cuda13, of several GB, which is built when it is asked for
LAYERS=(none cpu torch slurm torch13 compiler builder old broken new oldest python aarch64)

own_release() { echo "$VERSION_CODENAME"; }
# other_releases LAYER: other releases of the same distribution, so that a fleet has different Pythons and glibcs; the first
# that can be had is taken
other_releases() {
  case "$1 $(own_release)" in
    'new bookworm') echo trixie bullseye ;;
    'new trixie') echo bookworm ;;
    'new jammy') echo noble ;;
    'new noble') echo jammy ;;
    'oldest bookworm' | 'oldest trixie') echo bullseye ;;
  esac
}

# release_of LAYER; fails where it cannot be had
release_of() {
  case $1 in
    new) cat "$CACHE/other-release" 2>/dev/null ;;
    oldest) cat "$CACHE/oldest-release" 2>/dev/null ;;
    none | cpu | torch | slurm | torch13 | compiler | builder | cuda13 | old | broken | python | aarch64) own_release ;;
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
    torch13) echo "$home/torch13-$TORCH:$home/cpu-$TORCH:$home/none:$home/base" ;;
    compiler) echo "$home/compiler:$home/none:$home/base" ;;
    builder) echo "$home/compiler:$home/torch13-$TORCH:$home/cpu-$TORCH:$home/none:$home/base" ;;
    cuda13) echo "$home/cuda13-$TORCH_CUDA:$home/compiler:$home/none:$home/base" ;;
    cpu) echo "$home/cpu-$TORCH:$home/none:$home/base" ;;
    python) echo "$home/python-$(environments_key):$home/pythons-$(environments_key):$home/none:$home/base" ;;
    *) echo "$home/$1-$(tree_key "$1"):$home/none:$home/base" ;;
  esac
}
# another layer for another tree of files
tree_key() { cat "$STAND/layers/$1" "$STAND"/layers/{tree.sh,torch_c.c} | sha256sum | cut -c1-12; }
built() {
  local stack folders folder
  stack=$(stack "$1" 2>/dev/null) || return
  IFS=: read -ra folders <<<"$stack"
  for folder in "${folders[@]}"; do [ -d "$folder" ] || return; done
}
cmd_has() { # LAYER..
  [ $# -gt 0 ] || usage
  local layer
  for layer; do built "$layer" || return; done
}

# python_tag RELEASE: cp311
python_tag() { cat "$CACHE/$1/python-tag"; }

cmd_prepare() {
  local layer
  [ $# -gt 0 ] || set -- "${LAYERS[@]}"
  for layer; do release_of "$layer" >/dev/null || [[ $layer =~ ^(new|oldest)$ ]]; done
  mkdir -p "$CACHE"
  install_packages
  make_tools
  for layer; do prepare_layer "$layer"; done
  # the servers offer real wheels, which are built against the real torch
  prepare_layer cpu
  prepare_wheels
  for layer in python aarch64 builder; do ! built "$layer" || prepare_wheels "$layer"; done
}

prepare_layer() {
  built "$1" && return
  local release pythons
  case $1 in
    new | oldest) prepare_other_base "$1" || return 0 ;;
    *) prepare_base "$(own_release)" || die "cannot build a base of $(own_release)" ;;
  esac
  release=$(release_of "$1")
  [ -d "$CACHE/$release/none" ] || step "layer none ($release)" lay none "$release"
  case $1 in
    none) ;;
    torch) prepare_layer cpu; step "layer torch" lay torch "$release" ;;
    slurm)
      prepare_layer torch
      if step "downloading Slurm ($release)" download_packages slurm "$release" slurmd slurmctld slurm-client munge; then
        step "layer slurm" lay slurm "$release"
      else
        say "Slurm cannot be had from this host's archive: layer slurm is not built"
      fi
      ;;
    torch13) prepare_layer cpu; step "layer torch13" lay torch13 "$release" ;;
    compiler)
      step "downloading a compiler ($release)" download_packages compiler "$release" g++ python3-dev ||
        die "cannot get a compiler of $release"
      step "layer compiler" lay compiler "$release"
      ;;
    builder) prepare_layer torch13; prepare_layer compiler ;;
    cuda13) prepare_layer compiler; step "layer cuda13" lay cuda13 "$release" ;;
    python)
      pythons=$CACHE/$release/pythons-$(environments_key)
      [ -d "$pythons" ] || step "Pythons of this host" gather_pythons "$pythons"
      step "layer python" lay python "$release"
      ;;
    aarch64)
      if step "what layer aarch64 is made of" prepare_aarch64 "$release"; then
        step "layer aarch64" lay aarch64 "$release"
      else
        say "layer aarch64 cannot be had on this host"
      fi
      ;;
    *) step "layer $1" lay "$1" "$release" ;;
  esac
}

prepare_other_base() { # LAYER
  local release
  for release in $(other_releases "$1"); do
    prepare_base "$release" && echo "$release" >"$CACHE/${1/new/other}-release" && return
    ! archive_serves "$release" || die "cannot build a base of $release"
  done
  say "no release for layer $1 can be had from this host's archive: it is not built"
  return 1
}

prepare_base() { # RELEASE
  [ -d "$CACHE/$1/base" ] && return
  step "base of $1" build_base "$1" && return
  rm -rf "$CACHE/$1/base.tmp"
  return 1
}
# archive_serves RELEASE: whether the archive has it, and it is signed with a key that is trusted. apt fails of what will not get
# better by itself, and only warns when it has not reached the archive.
archive_serves() {
  local apt result=0
  apt_of "$1" "$CACHE/$1/apt" /dev/null || result=$?
  rm -rf "$CACHE/$1/apt"
  return "$result"
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
    torch13) download_toolkit ;;
    cuda13) download_torch_cuda ;;
    python) download_pips ;;
  esac
  # the chroot has no compiler: the libraries of the small trees are made here
  mkdir "$tmp/libraries"
  tree_libraries "$tmp/libraries" "$(machine_of "$1")"
  [ "$1" != torch13 ] || cuda_libraries "$tmp/libraries/cuda"
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare -m -n -- sh -ec '
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
    cd "$2/root"
    mount -t proc proc proc
    mount -t tmpfs tmpfs tmp
    mkdir tmp/downloads tmp/layers
    mount --bind "$3/downloads" tmp/downloads
    mount --bind "$4/layers" tmp/layers
    cp -r "$2/libraries" tmp
    exec $7 chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TORCH="$6" sh -e "/tmp/layers/$5"
    ' - "$below" "$tmp" "$CACHE" "$STAND" "$1" "$TORCH" "$(emulated_if_need_be "$1")"
  rm -rf "$tmp/upper/tmp" "$tmp/upper/proc" "$tmp/upper/root"
  mv -T "$tmp/upper" "$layer"
  rm -rf "$tmp" "$CACHE/downloads/torch-cuda"
}

# Packages and what of their dependencies the base lacks. Its steps are chained, for it is called where errexit is off.
download_packages() { # LAYER RELEASE PACKAGE..
  local release=$2 debs=$CACHE/downloads/$1-$2 tmp=$CACHE/downloads/$1-$2.tmp apt
  shift 2
  rm -rf "$debs" && # as of the last base: not kept, for the next one may lack others
    apt_of "$release" "$tmp" "$CACHE/$release/base/var/lib/dpkg/status" &&
    "${apt[@]}" install --yes --no-install-recommends --download-only "$@" >/dev/null &&
    rm -rf "$tmp/cache/archives/"{partial,lock} &&
    mv -T "$tmp/cache/archives" "$debs" &&
    rm -rf "$tmp"
}

# apt_of RELEASE FOLDER STATUS [OPTION..]: sets `apt`, apt-get here on the archive that a base is of and on a list of what is
# installed. It keeps all else in FOLDER.
apt_of() {
  local release=$1 folder=$2 status=$3
  shift 3
  apt=(
    apt-get -qq -o Dir::State="$folder/state" -o Dir::State::status="$status" -o Dir::Cache="$folder/cache"
    -o Dir::Etc::SourceList="$CACHE/$release/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Trusted=/dev/null -o Dir::Etc::TrustedParts="$folder/keys"
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o APT::Sandbox::User=root # _apt may have no way to the cache
    "$@"
  )
  rm -rf "$folder" &&
    mkdir -p "$folder/state/lists/partial" "$folder/cache/archives/partial" "$folder/keys" &&
    cp "/usr/share/keyrings/$ID-archive-keyring.gpg" "$folder/keys" &&
    "${apt[@]}" update
}

# tree_libraries FOLDER MACHINE: what the trees of files have for torch's libraries: libc10.so, once for each C++ ABI, and the
# binding that needs it
tree_libraries() {
  local abi
  for abi in old new; do
    mkdir "$1/$abi"
    c10_library "$abi" "$1/$abi/libc10.so" "$2"
  done
  compile "$2" "$STAND/layers/torch_c.c" "$1/_C.abi3.so" -Wl,--no-as-needed "$1/new/libc10.so" -Wl,-rpath,\$ORIGIN/lib
}
# c10_library old|new FILE MACHINE: exports what tells the C++ ABI of a libc10.so
c10_library() {
  local message=Ss
  [ "$1" = old ] || message=NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE
  echo "void error(void) __asm__(\"_ZN3c105ErrorC2ENS_14SourceLocationE$message\"); void error(void) {}" >"$2.c"
  compile "$3" "$2.c" "$2" -Wl,-soname,libc10.so
  rm "$2.c"
}

# cuda_libraries FOLDER: those of torch that its CPU build lacks, and libtorch.so, which brings them along. They need each other
# and the CUDA runtime as the real ones do, and have nothing in them.
cuda_libraries() {
  mkdir -p "$1/elsewhere"
  empty_library "$1/elsewhere/libcudart.so.13"
  empty_library "$1/elsewhere/libtorch_cpu.so"
  empty_library "$1/libc10_cuda.so" "$1/elsewhere/libcudart.so.13"
  empty_library "$1/libtorch_cuda.so" "$1/libc10_cuda.so" "$1/elsewhere/libcudart.so.13"
  empty_library "$1/libtorch.so" "$1/elsewhere/libtorch_cpu.so" "$1/libtorch_cuda.so"
  rm -r "$1/elsewhere"
}
empty_library() { # FILE NEEDED..
  local file=$1 runtime=../../nvidia/cu13/lib
  shift
  gcc -shared -nostdlib -x c /dev/null -x none -Wl,--no-as-needed -Wl,--allow-shlib-undefined "$@" -o "$file" \
    -Wl,-soname,"${file##*/}" -Wl,--disable-new-dtags "-Wl,-rpath,\$ORIGIN/$runtime:\$ORIGIN"
}

# The build for CUDA that the package index has, and NVIDIA's libraries: several GB, which are removed again once they are installed.
download_torch_cuda() {
  "$TOOLS/bin/pip" download -qq --only-binary :all: -d "$CACHE/downloads/torch-cuda" "torch==$TORCH_CUDA"
}

# What NVIDIA's compiler for CUDA 13.0 is made of, as the package index has it. Kept for the layer, which wants the runtime alone,
# and for the stand's index, which offers them all.
download_toolkit() {
  [ -d "$TOOLKIT" ] && return
  rm -rf "$TOOLKIT.tmp"
  step "downloading NVIDIA's compiler" "$TOOLS/bin/pip" download -qq --no-deps --only-binary :all: -d "$TOOLKIT.tmp" \
    nvidia-{cuda-nvcc,cuda-crt,nvvm,cuda-cccl,cuda-runtime}==13.0.*
  mv -T "$TOOLKIT.tmp" "$TOOLKIT"
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
