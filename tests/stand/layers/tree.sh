# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tree VERSION LABEL CUDA ABI [VENV]: a small tree of files that looks like an installed torch where only files are read.
# It can be imported and loads its libraries, but it computes nothing.
tree() {
  site=$(echo "${5:-/opt/venv}"/lib/python3*/site-packages)
  info=torch-$1.dist-info
  mkdir -p "$site/torch/lib" "$site/$info"
  cd "$site" || exit
  cp "/tmp/libraries/$4/libc10.so" torch/lib
  cp /tmp/libraries/_C.abi3.so torch
  printf 'from .version import __version__\nfrom . import _C\n' >torch/__init__.py
  cat >torch/version.py <<TEXT
from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '$1$2'
debug = False
cuda: Optional[str] = '$3'
git_version = '0000000000000000000000000000000000000000'
hip: Optional[str] = None
TEXT
  printf 'Metadata-Version: 2.1\nName: torch\nVersion: %s\n' "$1" >"$info/METADATA"
  echo pip >"$info/INSTALLER"
  printf 'Wheel-Version: 1.0\nGenerator: stand\nRoot-Is-Purelib: false\n' >"$info/WHEEL"
  echo torch >"$info/top_level.txt"
  touch "$info/RECORD"
  find torch "$info" -type f | sort | sed 's/$/,,/' >RECORD
  mv RECORD "$info/RECORD"
}
