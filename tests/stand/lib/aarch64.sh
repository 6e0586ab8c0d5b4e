# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Layer aarch64: the node's own packages once more, as Debian builds them for arm64, run by qemu's user emulation. And what
# compiles for it.

EMULATOR=$CACHE/downloads/qemu-aarch64

# machine_of LAYER: what its programs are for
machine_of() { if [ "$1" = aarch64 ]; then echo aarch64; else echo x86_64; fi; }
# emulated_if_need_be LAYER: words that go before a command, so that the programs of that layer run
emulated_if_need_be() { [ "$1" != aarch64 ] || echo "$STAND/emulated $EMULATOR"; }

# compile MACHINE SOURCE FILE [ARG..]: a shared library, which may include Python.h as long as it uses the limited API
compile() {
  local machine=$1 source=$2 file=$3
  shift 3
  # Debian keeps only pyconfig.h apart for each machine, and it says the same of all that have 64 bits
  local headers=${file%/*}/headers python
  python=$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  mkdir -p "$headers/$machine-linux-gnu/$python"
  cp "/usr/include/x86_64-linux-gnu/$python/pyconfig.h" "$headers/$machine-linux-gnu/$python"
  cp -r "/usr/include/$python" "$headers"
  "$machine-linux-gnu-gcc" -shared -fPIC -O1 -I"$headers" -I"$headers/$python" "$source" -o "$file" "$@"
  rm -r "$headers"
}

# prepare_aarch64 RELEASE: gets all that the layer is made of; fails where this host cannot have it. It is called where errexit is off.
prepare_aarch64() {
  [ "$ID" = debian ] || { say "$ID has arm64 in another archive than this host's"; return 1; }
  [ -x "$EMULATOR" ] || download_emulator || die "cannot get qemu's user emulation"
  "$STAND/emulated" "$EMULATOR" true ||
    { say "this kernel ($(uname -r)) does not let a user namespace say what runs programs of another machine (6.7 and later do)"; return 1; }
  [ -e "$CACHE/downloads/aarch64-$1.tar" ] || download_aarch64 "$1" || die "cannot get packages of $1 for arm64"
  type -P aarch64-linux-gnu-gcc >/dev/null || apt_quietly gcc-aarch64-linux-gnu libc6-dev-arm64-cross || die "cannot get a cross compiler"
}

# The one file, of a package that would have the host itself run such programs if it were installed.
download_emulator() {
  local tmp=$EMULATOR.tmp package file
  for package in qemu-user-static qemu-user; do # since Debian 13 the former has only links into the latter
    rm -rf "$tmp"
    mkdir "$tmp"
    (cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$package") || continue
    dpkg-deb --fsys-tarfile "$tmp"/*.deb | tar -x -C "$tmp" --wildcards './usr/bin/qemu-aarch64*' || continue
    for file in "$tmp"/usr/bin/qemu-aarch64{-static,}; do
      if [ -L "$file" ] || [ ! -f "$file" ]; then continue; fi
      mv "$file" "$EMULATOR"
      rm -rf "$tmp"
      return
    done
  done
  rm -rf "$tmp"
  return 1
}

# What the base has for one machine alone, for the other one.
download_aarch64() { # RELEASE
  local tmp=$CACHE/downloads/aarch64-$1.tmp status=$CACHE/$1/base/var/lib/dpkg/status apt packages file
  mapfile -t packages < <(awk -v RS= -F'\n' '/\nStatus: install ok installed\n/ && /\nArchitecture: amd64\n/ {
    print substr($1, length("Package: ") + 1) ":arm64" }' "$status")
  apt_of "$1" "$tmp" /dev/null -o APT::Architecture=arm64 -o APT::Architectures::=arm64 &&
    (cd "$tmp/cache" && "${apt[@]}" download "${packages[@]}") &&
    for file in "$tmp"/cache/*.deb; do dpkg-deb --fsys-tarfile "$file" || return; done >"$tmp/tar" &&
    mv "$tmp/tar" "$CACHE/downloads/aarch64-$1.tar" &&
    rm -rf "$tmp"
}
