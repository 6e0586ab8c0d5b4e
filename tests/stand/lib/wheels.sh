# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What the servers offer: wheels built from wheel/ as wheel/catalogue lists them, and for the package indexes the real
# einops wheel and the real sdists of flash-attn.

REPOSITORY=Dao-AILab/flash-attention

# catalogue: its lines for the releases that can be had, the release as a Python tag: VERSION LABEL cp311 KIND
# catalogue python: those for layer python only, and without it they are left out
catalogue() {
  local version label release kind own other='' tag
  own=$(python_tag "$(own_release)")
  ! built new || other=$(python_tag "$(release_of new)")
  grep -v '^#' "$STAND/wheel/catalogue" | while read -r version label release kind; do
    case ${1:-}:$release in
      :own) tag=$own ;;
      :other) tag=$other ;;
      python:cp*) tag=$release ;;
      *) tag= ;;
    esac
    [ -z "$tag" ] || echo "$version $label $tag $kind"
  done
}

# shop: where all that lies; another folder for other contents. Below it: releases/OWNER/REPO/TAG/FILE and index/FILE
# shop python: the same for layer python, and besides build/FILE: what an sdist needs to be built
shop() {
  local key
  key=$({
    echo "$TORCH"
    catalogue "$@"
    cat "$STAND"/wheel/setup.py "$STAND"/wheel/*/*.c* "$STAND"/wheel/*/*/*.py
  } | sha256sum)
  echo "$CACHE/${1:-}shop-${key:0:12}"
}

prepare_wheels() { # [python]
  local shop
  shop=$(shop "$@")
  [ -d "$shop" ] && return
  rm -rf "$CACHE/${1:-}shop"-*
  step "wheels and package index${1:+ of layer $1}" build_shop "$shop.tmp" "$@"
  mv -T "$shop.tmp" "$shop"
}
build_shop() { # FOLDER [python]
  local shop=$1 version label tag kind folder
  shift
  mkdir -p "$shop/build" "$shop/index"
  while read -r version label tag kind; do
    folder=$shop/releases/$REPOSITORY/v$version
    mkdir -p "$folder"
    # named after the build, as upstream does it: METADATA knows no label
    build_wheel "$shop/build" "$version" "$tag" "$kind" "$folder/flash_attn-$version+$label-$tag-$tag-linux_x86_64.whl"
  done < <(catalogue "$@")
  rm -rf "$shop/build"
  if [ "${1:-}" = python ]; then
    "$TOOLS/bin/pip" download -qq --no-deps --only-binary :all: --python-version 3.8 -d "$shop/index" einops
    "$TOOLS/bin/pip" download -qq --only-binary :all: -d "$shop/build" setuptools wheel
  else
    "$TOOLS/bin/pip" download -qq --no-deps --only-binary :all: -d "$shop/index" einops
  fi
  for version in $(catalogue "$@" | cut -d' ' -f1 | sort -u); do
    "$TOOLS/bin/python" "$STAND/wheel/fetch_sdist.py" "flash-attn==$version" "$shop/index"
  done
}

build_wheel() { # FOLDER VERSION PYTHON_TAG KIND FILE
  local source=$1/$4
  # one folder for all wheels of a kind: the extension is compiled once
  [ -d "$source" ] || cp -r "$STAND/wheel/$4" "$STAND/wheel/setup.py" "$1"
  mv "$1/setup.py" "$source" 2>/dev/null || true
  rm -rf "$source/dist"
  (
    cd "$source" || exit
    sed -i "s/^__version__ = .*/__version__ = \"$2\"/" flash_attn/__init__.py
    # torch is taken from where the layer has it; -B, since a layer is not to be written to
    site=$(echo "$CACHE/$(own_release)/cpu-$TORCH"/opt/venv/lib/python3*/site-packages)
    STAND_WHEEL_VERSION=$2 STAND_WHEEL_KIND=$4 PYTHONPATH=$site CXX=g++ CC=gcc \
      "$TOOLS/bin/python" -B setup.py --quiet bdist_wheel >build.log 2>&1 || { cat build.log >&2; exit 1; }
    [ "$4" != pure ] ||
      "$TOOLS/bin/wheel" tags --remove --python-tag "$3" --abi-tag "$3" --platform-tag linux_x86_64 dist/*.whl >/dev/null
    mv "dist/flash_attn-$2-$3-$3-linux_x86_64.whl" "$5"
  )
}
