# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What the servers offer: wheels built from wheel/ as wheel/catalogue lists them, and for the package indexes the real
# einops wheel and the real sdists of flash-attn.

UPSTREAM=releases/Dao-AILab/flash-attention

# catalogue: its wheels for the releases that can be had, with full tags:
#   FOLDER UPLOADED VERSION LABEL cp311-cp311-linux_x86_64 KIND
# catalogue python, catalogue aarch64: those for that layer only, and without it they are left out
catalogue() {
  local folder='' uploaded='' version label python kind platform own other='' oldest='' tags
  own=$(python_tag "$(own_release)")
  ! built new || other=$(python_tag "$(release_of new)")
  ! built oldest || oldest=$(python_tag "$(release_of oldest)")
  grep -v -e '^#' -e '^$' "$STAND/wheel/catalogue" | while read -r version label python kind platform; do
    if [ "$version" = in ]; then
      folder=$label uploaded=$python
      continue
    fi
    case ${1:-}:$python:${platform:=linux_x86_64} in
      aarch64:own:linux_aarch64) tags=$own-$own ;;
      *:linux_aarch64 | aarch64:*) tags= ;;
      :own:*) tags=$own-$own ;;
      :other:*) tags=${other:+$other-$other} ;;
      :oldest:*) tags=${oldest:+$oldest-$oldest} ;;
      :*-*:*) tags=$python ;;
      python:*-*:*) tags= ;;
      python:cp*) tags=$python-$python ;;
      *) tags= ;;
    esac
    [ -z "$tags" ] || echo "$folder $uploaded $version $label $tags-$platform $kind"
  done
}

# shop: where all that lies; another folder for other contents. Below it: releases/OWNER/NAME/TAG/FILE, wheels/FILE and
# index/FILE
# shop python: the same for layer python, and besides build/FILE: what an sdist needs to be built
# shop aarch64: releases/OWNER/NAME/TAG/FILE for layer aarch64
# shop builder: index/FILE for layer builder
shop() {
  local key
  key=$({
    echo "$TORCH"
    catalogue "$@"
    if [ "${1:-}" = builder ]; then
      find "$STAND/sdist" -type f | sort | xargs cat
    else
      cat "$STAND"/wheel/setup.py "$STAND"/wheel/*/*.c* "$STAND"/wheel/*/*/*.py
    fi
  } | sha256sum)
  echo "$CACHE/${1:-}shop-${key:0:12}"
}

prepare_wheels() { # [python|aarch64|builder]
  local shop
  shop=$(shop "$@")
  [ -d "$shop" ] && return
  rm -rf "$CACHE/${1:-}shop"-*
  if [ "${1:-}" = builder ]; then
    step "package index of layer builder" build_builder_shop "$shop.tmp"
  else
    step "wheels and package index${1:+ of layer $1}" build_shop "$shop.tmp" "$@"
  fi
  mv -T "$shop.tmp" "$shop"
}
build_shop() { # FOLDER [python|aarch64]
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
  [ "${1:-}" != aarch64 ] || return 0
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
# What a build needs: sdists of our own, NVIDIA's compiler, and tools for the nodes' Python, which is that of the stand's tools
build_builder_shop() { # FOLDER
  local source
  rm -rf "$1"
  mkdir -p "$1/index"
  download_toolkit
  cp -l "$TOOLKIT"/*.whl "$1/index"
  "$TOOLS/bin/pip" download -qq --no-deps --only-binary :all: -d "$1/index" pip 'setuptools<82' wheel ninja packaging
  for source in "$STAND"/sdist/*-*/; do
    "$TOOLS/bin/python" "$STAND/sdist/pack.py" "$source" "$1/index"
  done
}

build_wheel() { # FOLDER VERSION TAGS KIND FILE
  local source=$1/$4 python abi platform
  IFS=- read -r python abi platform <<<"$3"
  # one folder for all wheels of a kind: the extension is compiled once
  [ -d "$source" ] || prepare_source "$4" "${platform##*linux_}" "$source"
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
prepare_source() { # KIND MACHINE FOLDER
  local machine=$2 like=$1
  case $1 in
    wrong) like=real ;; # compiled with a mistake
    foreign) like=small machine=x86_64 ;;
  esac
  cp -r "$STAND/wheel/$like" "$3"
  cp "$STAND/wheel/setup.py" "$3"
  # setuptools has no cross compiler
  if [ "$like" = small ] || [ "$machine" != x86_64 ]; then
    c10_library new "$3/libc10.so" "$machine"
    compile "$machine" "$3/flash_attn_2_cuda.c" "$3/flash_attn_2_cuda.abi3.so" "$3/libc10.so"
  fi
}
