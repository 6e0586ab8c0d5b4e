# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What the servers offer: wheels built from wheel/ as wheel/catalogue lists them, and for the package indexes the real
# einops wheel and the real sdists of flash-attn.

UPSTREAM=releases/Dao-AILab/flash-attention

# catalogue: its wheels for the releases that can be had, with full tags:
#   FOLDER UPLOADED VERSION LABEL cp311-cp311-linux_x86_64 KIND
# catalogue python: those for layer python only, and without it they are left out
catalogue() {
  local folder='' uploaded='' version label python kind platform own other='' tags
  own=$(python_tag "$(own_release)")
  ! built new || other=$(python_tag "$(release_of new)")
  grep -v -e '^#' -e '^$' "$STAND/wheel/catalogue" | while read -r version label python kind platform; do
    if [ "$version" = in ]; then
      folder=$label uploaded=$python
      continue
    fi
    case ${1:-}:$python in
      :own) tags=$own-$own ;;
      :other) tags=${other:+$other-$other} ;;
      :*-*) tags=$python ;;
      python:*-*) tags= ;;
      python:cp*) tags=$python-$python ;;
      *) tags= ;;
    esac
    [ -z "$tags" ] || echo "$folder $uploaded $version $label $tags-${platform:-linux_x86_64} $kind"
  done
}

# shop: where all that lies; another folder for other contents. Below it: releases/OWNER/NAME/TAG/FILE, wheels/FILE and
# index/FILE
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
  local shop=$1 folder uploaded version label tags kind wheel
  shift
  mkdir -p "$shop/build" "$shop/index"
  while read -r folder uploaded version label tags kind; do
    mkdir -p "$shop/$folder"
    # named after the build, as upstream does it: METADATA knows no label
    wheel=$shop/$folder/flash_attn-$version+$label-$tags.whl
    build_wheel "$shop/build" "$version" "$tags" "$kind" "$wheel"
    touch -d "$uploaded UTC" "$wheel"
  done < <(catalogue "$@")
  rm -rf "$shop/build"
  if [ "${1:-}" = python ]; then
    "$TOOLS/bin/pip" download -qq --no-deps --only-binary :all: --python-version 3.8 -d "$shop/index" einops
    "$TOOLS/bin/pip" download -qq --only-binary :all: -d "$shop/build" setuptools wheel
  else
    "$TOOLS/bin/pip" download -qq --no-deps --only-binary :all: -d "$shop/index" einops
  fi
  for folder in "$shop/$UPSTREAM"/v*; do
    "$TOOLS/bin/python" "$STAND/wheel/fetch_sdist.py" "flash-attn==${folder##*/v}" "$shop/index"
  done
}

build_wheel() { # FOLDER VERSION TAGS KIND FILE
  local source=$1/$4 python abi platform
  IFS=- read -r python abi platform <<<"$3"
  # one folder for all wheels of a kind: the extension is compiled once
  # a wrong one is the real one, compiled with a mistake
  [ -d "$source" ] || { cp -r "$STAND/wheel/${4/wrong/real}" "$source" && cp "$STAND/wheel/setup.py" "$source"; }
  rm -rf "$source/dist"
  (
    cd "$source" || exit
    sed -i "s/^__version__ = .*/__version__ = \"$2\"/" flash_attn/__init__.py
    # torch is taken from where the layer has it; -B, since a layer is not to be written to
    site=$(echo "$CACHE/$(own_release)/cpu-$TORCH"/opt/venv/lib/python3*/site-packages)
    STAND_WHEEL_VERSION=$2 STAND_WHEEL_KIND=$4 PYTHONPATH=$site CXX=g++ CC=gcc \
      "$TOOLS/bin/python" -B setup.py --quiet bdist_wheel >build.log 2>&1 || { cat build.log >&2; exit 1; }
    "$TOOLS/bin/wheel" tags --remove --python-tag "$python" --abi-tag "$abi" --platform-tag "$platform" dist/*.whl >/dev/null
    mv dist/*.whl "$5"
  )
}
