# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real causal-conv1d, for the newest torch with CUDA 13, on machines without a CUDA toolkit."""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import archives
import by_hand
import fleet
import pytest

PACKAGE = "causal-conv1d"
#: compute capabilities for which its setup.py compiles with CUDA 13.0
OWN_ARCHITECTURES = ("75", "80", "87", "90", "100", "120", "103", "110", "121")
LOADED = "import torch, causal_conv1d_cuda, causal_conv1d; print(causal_conv1d.__version__)"
STAND_SDIST = fleet.ROOT / "tests/stand/sdist"


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """That of the newest version, from the index, as it is."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", PACKAGE], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    version = re.search(r"\((\S+)\)", listed)
    assert version, listed
    fetch = [sys.executable, fleet.ROOT / "tests/stand/wheel/fetch_sdist.py", f"{PACKAGE}=={version[1]}", tmp_path]
    subprocess.run(fetch, check=True)
    return next(tmp_path.iterdir())


def test_a_bare_machine_builds_it_and_a_node_gets_it(measured: list[str]) -> None:
    ran = fleet.play("install_flash_attn", "n01", packages=[PACKAGE], builder="bare")
    assert ran.status == 0, ran.output
    [built] = fleet.stored(PACKAGE)
    assert built.record["builder"] == "bare"
    assert built.record["architectures"] == [fleet.ARCHITECTURE]
    assert fleet.on_node("n01", f"/opt/venv/bin/python -W ignore -c '{LOADED}'").strip() == built.record["version"]
    measured.append(
        f"{built.path.name}: {ran.seconds:.0f} s from bare machine to installed, compilers {built.record['core_seconds']:.0f} s"
        f" of a core, {built.record['size'] / 1e6:.1f} MB"
    )
    again = fleet.play("install_flash_attn", "n01,n02", packages=[PACKAGE], builder="bare")
    assert again.status == 0, again.output
    assert fleet.stored(PACKAGE) == [built]
    assert fleet.on_node("n02", f"/opt/venv/bin/python -W ignore -c '{LOADED}'").strip() == built.record["version"]


def test_the_role_costs_no_more_than_pip_by_hand_and_a_share_of_what_setup_py_wants(
    sdist: Path, measured: list[str]
) -> None:
    by_hand.prepare("n01")
    baseline = by_hand.build("n01", sdist, for_one_architecture(setup_py(sdist)))
    ran = fleet.play("build", "n01", packages=[PACKAGE])
    assert ran.status == 0, ran.output
    [built] = fleet.stored(PACKAGE)
    overhead = (ran.core_seconds + built.record["core_seconds"]) / baseline.core_seconds - 1
    measured.append(
        f"pip wheel by hand {baseline.seconds:.0f} s ({baseline.core_seconds:.0f} s of a core), the role {ran.seconds:.0f} s"
        f" ({built.record['core_seconds']:.0f} s of the builder's cores and {ran.core_seconds:.0f} s of the control node's):"
        f" {overhead:+.1%} work, {ran.seconds / baseline.seconds - 1:+.1%} time"
    )

    # the smallest file stands for all of them
    objects = by_hand.object_seconds("n01")
    sample = min(
        (name for name in objects if name.startswith(f"{PACKAGE.replace('-', '_')}_")), key=objects.__getitem__
    )
    one = by_hand.compile_again("n01", sample)
    more = by_hand.compile_again("n01", sample, *(set(OWN_ARCHITECTURES) - {"90"}))
    factor = more.core_seconds / one.core_seconds
    of_cuda = sum(seconds for name, seconds in objects.items() if name != f"{PACKAGE.replace('-', '_')}.o")
    share = sum(objects.values()) / (sum(objects.values()) + of_cuda * (factor - 1))
    measured.append(
        f"{sample} for {len(OWN_ARCHITECTURES)} architectures takes {factor:.1f} times the work of one; all objects for one take {share:.2f}"
        " of what setup.py's own list would"
    )
    assert overhead <= 0.05
    assert share <= 0.3


def test_nvidias_archives_serve_as_well_as_wheels(tmp_path: Path, measured: list[str]) -> None:
    by_hand.prepare("n01")  # has the wheels downloaded
    archives.make_archives(fleet.cache() / "by_hand", tmp_path / "cuda", "13.0.2")
    subprocess.run(
        [sys.executable, STAND_SDIST / "pack.py", next(STAND_SDIST.glob("causal_conv1d-1.7*")), tmp_path], check=True
    )
    ran = fleet.play(
        "build",
        "n01",
        packages=[PACKAGE],
        sources=[f"directory:{tmp_path}", "build"],
        build_cuda=str(tmp_path / "cuda"),
        build_archs=["8.0", "9.0"],
    )
    assert ran.status == 0, ran.output
    assert "brought as NVIDIA's archives" in ran.output
    [built] = fleet.stored(PACKAGE)
    assert built.record["architectures"] == ["8.0", "9.0"]
    assert built.record["compilers"]["nvcc"].startswith("13.0")
    measured.append(f"the stand's {built.record['sdist']} with NVIDIA's archives: {ran.seconds:.0f} s")


def test_an_archive_that_is_another_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    by_hand.prepare("n01")
    archives.make_archives(fleet.cache() / "by_hand", tmp_path / "cuda", "13.0.2")
    [nvcc] = (tmp_path / "cuda").glob("cuda_nvcc/*/*.tar.xz")
    data = bytearray(nvcc.read_bytes())
    data[len(data) // 2] ^= 1
    nvcc.write_bytes(data)
    ran = fleet.play("build", "n01", packages=[PACKAGE], build_cuda=str(tmp_path / "cuda"))
    assert ran.status != 0
    assert re.search(rf"{re.escape(nvcc.name)}.* has sha256 [0-9a-f]{{64}}, wanted is [0-9a-f]{{64}}", ran.output), (
        ran.output
    )
    assert fleet.stored(PACKAGE) == []


def setup_py(sdist: Path) -> str:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(sdist.read_bytes()))) as archive:
        member = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/setup.py")
        assert member
        return member.read().decode()


def for_one_architecture(text: str) -> str:
    """setup.py as an administrator would change it."""
    flags = re.compile(r'cc_flag\.append\("-gencode"\)\s+cc_flag\.append\("arch=compute_(?!90)\d+,code=sm_\d+"\)')
    text, count = flags.subn("pass", text)
    assert count == len(OWN_ARCHITECTURES) - 1, "setup.py has another list of architectures"
    return text
