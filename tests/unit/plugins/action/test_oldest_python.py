# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The oldest Python that a node may have, a real one, for Ansible and for the environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_test._util.target.common.constants import REMOTE_ONLY_PYTHON_VERSIONS
from binaries import read_facts
from nodes import extension_wheel, put_torch
from venvs import site_packages
from wheels import sha256

ROOT = Path(__file__).resolve().parents[4]


def oldest_python() -> tuple[int, int]:
    """The oldest Python of nodes that both this collection and this ansible-core serve."""
    config = yaml.safe_load((ROOT / "tests/config.yml").read_text())
    versions = [config["modules"]["python_requires"].removeprefix(">="), min(REMOTE_ONLY_PYTHON_VERSIONS, key=version)]
    return max(map(version, versions))


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.fixture
def python():
    """The path of such a Python."""
    wanted = ".".join(map(str, oldest_python()))
    find = [ROOT / "tests/tools/find-python.sh", wanted, wanted]
    found = subprocess.run(find, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    if not found:
        pytest.skip(f"this machine has no Python {wanted}")
    return found


def test_a_wheel_is_planned_proven_installed_and_verified(on_node, python, shelf, tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", "--symlinks", venv], check=True)
    flags = subprocess.check_output([python, "-c", "import sys; print(sys.abiflags)"], text=True).strip()
    tag = "cp{}{}".format(*oldest_python())
    wheel = extension_wheel(shelf, put_torch(venv), "2.6", tags=f"{tag}-{tag}{flags}-linux_{os.uname().machine}")

    def run(action, **arguments):
        result = on_node(action, "-e", f"ansible_python_interpreter={python}", python=str(venv), **arguments)
        assert not result["failed"], result["output"]
        return result

    planned = run("wheel_plan", packages=["flash-attn"], source=[f"directory:{shelf}"], suggest=False)
    assert planned["environment"]["python"]["tag"] == tag
    assert [each["filename"] for each in planned["wheels"]] == [wheel.name]
    digest = sha256(wheel)
    done = run(
        "torch_extension",
        wheels=[{**planned["wheels"][0], "sha256": digest}],
        facts={digest: read_facts(shelf.with_name("compiled") / "2.6.so", "flash_attn_2_cuda.so")},
        files=[str(wheel)],
        folder=str(tmp_path / "stage"),
    )
    assert (done["changed"], [proof["verdict"] for proof in done["proofs"]]) == (True, ["fits"]), done["output"]
    assert (site_packages(venv) / "flash_attn/__init__.py").exists()
    verified = run("torch_verify")
    assert (verified["ok"], verified["changed"]) == (True, False), verified["output"]
