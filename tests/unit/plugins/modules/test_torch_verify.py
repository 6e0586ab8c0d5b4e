# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from wheels import build_wheel, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import system
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.damage import record_hash
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.modules import torch_verify


@pytest.fixture
def gpus(monkeypatch):
    found = []
    monkeypatch.setattr(system, "read_gpus_and_driver", lambda run, which: (found, None, []))
    return found


@pytest.fixture
def verify(venv, packages, make_torch, run_module, gpus):
    """Looks at a real environment that has flash-attn, and sees that nothing has changed."""
    make_torch(packages)

    def verify(**arguments):
        before = tree_state(venv)
        result = run_module(torch_verify, python=str(venv), **arguments)
        assert tree_state(venv) == before
        assert not result["changed"]
        return result

    return verify


@pytest.fixture
def flash_attn(venv, run, tmp_path):
    wheel = build_wheel(
        tmp_path,
        label="cu12torch2.6cxx11abiFALSE",
        files={"flash_attn/__init__.py": "import flash_attn.more\n", "flash_attn/more.py": "\n"},
    )
    assert run([str(venv / "bin/python"), "-m", "pip", "install", "--no-index", "--no-compile", str(wheel)])[0] == 0


def write_unnoticed(path, text):
    times = path.stat()
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def write_with_record(folder, name, text):
    """As if it had been installed so."""
    (folder / name).write_text(text)
    (record,) = folder.glob("flash_attn-*/RECORD")
    rows = [row for row in record.read_text().splitlines() if not row.startswith(name)]
    record.write_text("\n".join([*rows, f"{name},{record_hash(str(folder / name))},{len(text)}"]))


def test_nothing_installed_is_well(verify):
    result = verify()
    assert (result["ok"], result["packages"]) == (True, [])


def test_what_is_whole_and_can_be_imported_is_well(flash_attn, verify):
    result = verify()
    assert result["ok"]
    (package,) = result["packages"]
    assert (package["name"], package["version"], package["reasons"], package["verify"]) == (
        "flash-attn",
        "2.8.3",
        [],
        "import",
    )
    assert package["filename"].startswith("flash_attn-2.8.3+cu12torch2.6")
    assert result["environment"]["torch"]["version"] == "2.6.0+cu124"


@pytest.mark.parametrize(
    ("spoil", "reasons", "remedy"),
    [
        (
            lambda folder: (folder / "flash_attn/more.py").unlink(),
            [
                "flash_attn/more.py is missing",
                "it cannot be imported: ModuleNotFoundError: No module named 'flash_attn.more'",
            ],
            "again, which replaces what is not whole",
        ),
        (
            lambda folder: (folder / "flash_attn/more.py").write_text("V = 1\n"),
            ["flash_attn/more.py is not as installed"],
            "again, which replaces what is not whole",
        ),
        (
            lambda folder: write_unnoticed(folder / "flash_attn/more.py", "#"),
            ["flash_attn/more.py is not as installed, though size and time are"],
            "with torch_extension_reinstall=true",
        ),
        (
            lambda folder: next(folder.glob("flash_attn-*/RECORD")).unlink(),
            ["flash_attn-2.8.3.dist-info/RECORD is missing"],
            "again, which replaces what is not whole",
        ),
        (
            lambda folder: write_with_record(folder, "flash_attn/more.py", "import einops\n"),
            ["it cannot be imported: ModuleNotFoundError: No module named 'einops'"],
            "with torch_extension_reinstall=true, which also brings what the package requires",
        ),
    ],
    ids=["lost", "changed", "changed unnoticed", "broken off", "whole"],
)
def test_what_is_broken_is_named_and_what_repairs_it(spoil, reasons, remedy, flash_attn, verify, packages):
    spoil(packages)
    result = verify()
    assert not result["ok"]
    (package,) = result["packages"]
    assert package["reasons"] == reasons
    assert remedy in package["remedy"]


def test_a_package_that_nobody_knows_of_is_the_rest_of_an_installation(verify, packages):
    (packages / "flash_attn").mkdir()
    (package,) = verify(verify="none")["packages"]
    assert package["version"] is None
    assert "there is a folder flash_attn in" in package["reasons"][0]


def test_a_gpu_on_which_it_fails_is_named(flash_attn, verify, gpus, monkeypatch):
    gpus.append({"name": "A100", "compute_capability": "8.0", "memory_mib": 81920})
    result = {"device": "cuda:0", "name": "A100", "compute_capability": "8.0", "seconds": None, "max_error": None}
    result["failure"] = "attention in torch.float16: gradient 1 is wrong by 0.5, allowed is 0.002"
    monkeypatch.setattr(trial, "check_on_gpus", lambda *args, **more: [result])
    (package,) = verify()["packages"]
    assert (package["verify"], package["gpus"]) == ("gpu", [result])
    assert package["reasons"] == [f"it does not work on cuda:0 (A100, compute capability 8.0): {result['failure']}"]
    assert package["remedy"].startswith("take another version in torch_extension_packages")
    result["failure"] = "RuntimeError: CUDA driver version is insufficient for CUDA runtime version"
    (package,) = verify()["packages"]
    assert package["reasons"][0].endswith("upgrade the driver)")
    assert package["remedy"] is None, "the reason says what to do"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"verify": "gpu"}, "nvidia-smi names no GPU"), ({"python": "/none"}, "No interpreter at /none")],
)
def test_what_cannot_be_looked_at_is_a_failure(arguments, words, venv, gpus, run_module):
    result = run_module(torch_verify, **{"python": str(venv), **arguments})
    assert result["failed"]
    assert words in result["msg"]


def test_a_copy_that_python_takes_instead_is_named(verify, flash_attn, tmp_path, packages, monkeypatch):
    copy = tmp_path / "apps" / "flash_attn" / "__init__.py"
    copy.parent.mkdir(parents=True)
    copy.touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "apps"))
    result = verify()
    assert not result["ok"]
    (reason,) = result["packages"][0]["reasons"]
    assert f"a copy of flash-attn in {copy} (on PYTHONPATH) comes before {packages}" in reason


def test_the_record_of_an_upgrade_that_broke_off_is_named_and_the_right_version_told(verify, flash_attn, packages):
    stale = packages / "flash_attn-2.7.3.dist-info"
    stale.mkdir()
    (stale / "METADATA").write_text("Name: flash-attn\nVersion: 2.7.3\n")
    (stale / "RECORD").write_text("flash_attn/gone.py,,1\n")
    (package,) = verify()["packages"]
    assert package["version"] == "2.8.3"
    assert package["reasons"] == [f"an upgrade that broke off has left {stale} beside it"]
