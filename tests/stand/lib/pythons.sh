# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Layer python: real interpreters of the host under /opt/pythons, and venvs of them with pips of several years.

environments() { grep -v '^#' "$STAND/layers/environments"; } # lines PYTHON PIP, or PYTHON none
# another layer for other environments
environments_key() { environments | cat - "$STAND/layers/python" "$STAND"/layers/{tree.sh,torch_c.c} | sha256sum | cut -c1-12; }

# gather_pythons FOLDER: each interpreter that the environments name, as FOLDER/opt/pythons/3.X. The node's own Python
# is not among them.
gather_pythons() {
  local tmp=$1.tmp version python own
  own=$(python_tag "$(own_release)")
  rm -rf "$tmp"
  mkdir -p "$tmp/opt/pythons"
  for version in $(environments | cut -d' ' -f1 | sort -Vu); do
    [ "cp${version/./}" != "$own" ] || continue
    if python=$(find_python "$version"); then
      take_python "$version" "$python" "$tmp/opt/pythons/$version"
    else
      say "no Python $version on this host, nor by uv: layer python goes without it"
    fi
  done
  mv -T "$tmp" "$1"
}

# find_python VERSION: the prefix of one that lies in a folder of its own, so that it can be moved
find_python() {
  local home candidate prefix
  home=$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)
  while read -r candidate; do
    prefix=$("$candidate" -I -c 'import sys, ssl, zlib, hashlib; print(sys.base_prefix)' 2>/dev/null) || continue
    case $prefix in /usr | /usr/local) continue ;; esac
    [ -e "$prefix/bin/python$1" ] && echo "$prefix" && return
  done < <(
    compgen -G "$home/.pyenv/versions/$1.*/bin/python$1"
    type -aP "python$1"
    type -P uv >/dev/null && timeout 300 uv --quiet python install --no-bin --install-dir "$CACHE/downloads/pythons" "$1" \
      >/dev/null 2>&1 && compgen -G "$CACHE/downloads/pythons/*-$1.*/bin/python$1"
  )
  return 1
}

# Hard links where the file system can, or else copies; without what the host's user has installed into it. Nothing
# writes to them: they are the lower layer of whatever is built or run.
take_python() { # VERSION PREFIX FOLDER
  local tree file
  mkdir -p "$3/bin" "$3/lib"
  for file in "$2/bin/python$1" "$2"/lib/libpython"$1"*.so* "$2/lib/python$1"; do
    [ -e "$file" ] || continue
    tree=$3/${file#"$2"/}
    cp -al "$file" "$tree" 2>/dev/null || { rm -rf "$tree"; cp -a "$file" "$tree"; }
  done
  rm -rf "$3/lib/python$1"/{site-packages,test,idlelib,config-*}
  mkdir "$3/lib/python$1/site-packages"
}

# download_pips: a folder for each environment, with the one wheel of its pip
download_pips() {
  local python pip folder
  rm -rf "$CACHE/downloads/pips"
  while read -r python pip; do
    [ "$pip" != none ] || continue
    folder=$CACHE/downloads/pips/py${python/./}-pip$pip
    if [ "$pip" = newest ]; then pip=; else pip="==$pip"; fi
    "$TOOLS/bin/pip" download -qq --no-deps --only-binary :all: --python-version "$python" -d "$folder" "pip$pip"
  done < <(environments)
}
