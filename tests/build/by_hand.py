# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an administrator would do instead of the role: `pip wheel`, with NVIDIA's compiler from the index. The baseline."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import fleet

TOOLKIT = tuple(f"nvidia-{part}==13.0.*" for part in ("cuda-nvcc", "cuda-crt", "nvvm", "cuda-cccl", "cuda-runtime"))
TOOLS = ("pip", "setuptools", "wheel", "ninja", "packaging")

_PREPARE = """
rm -rf /root/bench && mkdir /root/bench && cd /root/bench
/opt/venv/bin/python -m venv --without-pip venv
site=$(echo "$PWD"/venv/lib/python3*/site-packages)
echo "import site; site.addsitedir('$(echo /opt/venv/lib/python3*/site-packages)')" >"$site/environment.pth"
pip=$(echo /root/wheels/pip-*.whl)
venv/bin/python "$pip/pip" install --quiet --no-index --no-deps --ignore-installed /root/wheels/*.whl
ln -s lib "$site/nvidia/cu13/lib64"
ln -s libcudart.so.13 "$site/nvidia/cu13/lib/libcudart.so"
cat >environment <<TEXT
export PATH=$PWD/venv/bin:$site/nvidia/cu13/bin:\\$PATH CUDA_HOME=$site/nvidia/cu13 CPATH=$site/nvidia/cu13/include/cccl
export CAUSAL_CONV1D_FORCE_BUILD=TRUE NVCC_THREADS=1 MAX_JOBS=$(nproc)
TEXT
"""
_BUILD = """
cd /root/bench
. ./environment
rm -rf source && mkdir source && tar -x --strip-components 1 -C source -f "/root/sdists/$1"
cp setup.py source/setup.py
TIMEFORMAT='taken %R %U %S'
time venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --no-index -w wheels ./source >build.log 2>&1 || { tail -n 50 build.log; exit 1; }
"""
_OBJECTS = "cd /root/bench/source/build/temp.*; grep -v '^#' .ninja_log"
_COMPILE = """
. /root/bench/environment
cd /root/bench/source/build/temp.*
command=$(ninja -t commands "$1" | tail -n 1)
shift
TIMEFORMAT='taken %R %U %S'
time bash -c "${command/ -gencode / $* -gencode }" >/dev/null 2>&1
"""


class Taken(NamedTuple):
    seconds: float
    core_seconds: float

    @classmethod
    def of(cls, said: str) -> Taken:
        real, user, system = map(float, re.findall(r"^taken (\S+) (\S+) (\S+)$", said, re.MULTILINE)[-1])
        return cls(real, user + system)


def prepare(node: str) -> None:
    """Lay out a virtual environment over the node's own, with a compiler, in the node's /root/bench."""
    wheels = fleet.cache() / "by_hand"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(wheels),
    ]
    subprocess.run([*command, *TOOLKIT, *TOOLS], check=True, stdout=sys.stderr)
    fleet.bring(node, "/root/wheels", *wheels.iterdir())
    fleet.on_node(node, _PREPARE)


def build(node: str, sdist: Path, setup_py: str) -> Taken:
    """Build an sdist with another setup.py, with one compiler for each core."""
    fleet.bring(node, "/root/sdists", sdist)
    fleet.stand("ssh", node, "cat >/root/bench/setup.py", text=setup_py)
    return Taken.of(fleet.on_node(node, f"exec 2>&1\n{_BUILD}", sdist.name))


def object_seconds(node: str) -> dict[str, float]:
    """The seconds that each object took in the last build."""
    lines = [line.split("\t") for line in fleet.on_node(node, _OBJECTS).splitlines()]
    return {Path(path).name: (int(end) - int(begin)) / 1000 for begin, end, _mtime, path, _hash in lines}


def compile_again(node: str, name: str, *architectures: str) -> Taken:
    """Compile one object of the last build again, for so many architectures more (compute capabilities such as 80)."""
    path = fleet.on_node(node, f"find /root/bench/source/build -name {name}").strip()
    flags = [word for number in architectures for word in ("-gencode", f"arch=compute_{number},code=sm_{number}")]
    return Taken.of(fleet.on_node(node, f"exec 2>&1\n{_COMPILE}", path, *flags))
