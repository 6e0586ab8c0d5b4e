# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from venvs import site_packages
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import (
    ALL_DISTRIBUTIONS,
    describe_environment,
    describe_environments,
)


def install(venv, wheel):
    command = [venv / "bin" / "python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel]
    subprocess.check_call(command)


def test_an_environment_is_described_from_its_files_alone(venv, packages, tmp_path, home, run, make_torch):
    make_torch(packages)
    wheel = build_wheel(tmp_path, label=LABEL, files={"flash_attn/__init__.py": "raise SystemExit('imported')\n"})
    install(venv, wheel)
    environment, warnings = describe_environment(
        str(venv), ["Flash.Attn", "einops"], run, {"HOME": str(home), "FLASH_ATTENTION_FORCE_BUILD": "TRUE", "A": "b"}
    )
    assert [warning for warning in warnings if "libstdc++" not in warning] == []
    assert environment["python"]["executable"] == str(venv / "bin" / "python")
    assert environment["python"]["site_packages"] == str(packages)
    assert environment["python"]["prefix"] == str(venv)
    assert environment["torch"]["version"] == "2.6.0+cu124"
    pip = subprocess.check_output([venv / "bin" / "python", "-m", "pip", "--version"], text=True).split()[1]
    uv = subprocess.check_output(["uv", "--version"], text=True).split()[1]
    assert environment["installers"] == {"pip": pip, "uv": uv, "reason": None}
    assert environment["pip_cache"] == {
        "dir": f"{home}/.cache/pip",
        "usable": True,
        "reason": None,
        "only_binary": [],
        "no_binary": [],
    }
    assert environment["sdists"] == {}
    assert environment["variables"] == {"FLASH_ATTENTION_FORCE_BUILD": "TRUE"}
    assert environment["distributions"] == {"einops": None, "flash-attn": "2.8.3"}
    assert environment["origins"] == {"flash-attn": {"filename": wheel.name, "sha256": sha256(wheel)}}


def editable(packages, source, version="2.9.0a0+gitab"):
    """As setuptools installs a project that stays where it is: a hook of Python's imports, and metadata (PEP 660)."""
    metadata = packages / f"torch-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: torch\nVersion: {version}\n")
    (metadata / "RECORD").touch()
    (packages / "__editable___torch_finder.py").write_text(
        "import importlib.util, sys\nclass Finder:\n  @staticmethod\n  def find_spec(name, path=None, target=None):\n"
        f"    if name == 'torch': return importlib.util.spec_from_file_location(name, {str(source / '__init__.py')!r})\n"
        "sys.meta_path.append(Finder)\n"
    )
    (packages / "__editable__.torch.pth").write_text("import __editable___torch_finder\n")


def by_pth(packages, source):
    (packages / "easy-install.pth").write_text(f"{source.parent}\n")


@pytest.mark.parametrize("way", [editable, by_pth])
def test_a_torch_that_is_no_folder_of_the_environment_is_described_where_it_is(
    way, make_venv, make_torch, run, tmp_path
):
    packages = site_packages(make_venv())
    source = make_torch(tmp_path / "src")
    way(packages, source)
    environment, warnings = describe_environment(str(tmp_path / "venv"), [], run, os.environ)
    assert (environment["torch"]["path"], environment["torch"]["version"]) == (str(source), "2.6.0+cu124")
    assert [warning for warning in warnings if "torch" in warning] == []


def test_the_torch_of_a_module_that_is_loaded_counts_and_the_one_that_it_hides_is_told_of(
    make_venv, make_torch, run, tmp_path, monkeypatch
):
    packages = site_packages(make_venv())
    hidden = make_torch(packages)
    loaded = make_torch(tmp_path / "apps", version="__version__ = '2.1.2'\ncuda = '12.1'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "apps"))
    environment, warnings = describe_environment(str(tmp_path / "venv"), [], run, os.environ)
    assert environment["torch"]["path"] == str(loaded)
    (warning,) = [warning for warning in warnings if "torch" in warning]
    assert f"torch 2.1.2 in {loaded} (on PYTHONPATH) before the one in {hidden}" in warning


def record(packages, name, version, files=()):
    metadata = packages / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (metadata / "RECORD").write_text("".join(f"{file},,{size}\n" for file, size in files))


def test_of_several_records_of_torch_the_one_counts_whose_files_are_there_with_a_warning(
    make_venv, make_torch, run, tmp_path
):
    packages = site_packages(make_venv())
    torch = make_torch(packages)
    record(packages, "torch", "2.12.0", [("torch/version.py", 1)])
    record(packages, "torch", "2.6.0", [("torch/version.py", (torch / "version.py").stat().st_size)])
    os.utime(packages / "torch-2.6.0.dist-info", (0, 0))  # so that it is not the age that decides
    environment, warnings = describe_environment(str(tmp_path / "venv"), ["torch"], run, os.environ)
    assert environment["distributions"]["torch"] == "2.6.0"
    (warning,) = [warning for warning in warnings if "records" in warning]
    assert "Its files are those of 2.6.0" in warning
    assert "torch-2.12.0.dist-info" in warning


def test_a_copy_that_comes_first_is_a_shadow_with_its_version_and_place(make_venv, run, tmp_path, monkeypatch):
    packages, apps = site_packages(make_venv()), tmp_path / "apps"
    for folder, version in ((packages, "2.8.3"), (apps, "2.7.3")):
        (folder / "flash_attn").mkdir(parents=True)
        (folder / "flash_attn" / "__init__.py").touch()
        record(folder, "flash_attn", version)
    plain, _warnings = describe_environment(str(tmp_path / "venv"), ["*"], run, os.environ)
    assert (plain["shadows"], plain["distributions"]["flash-attn"]) == ({}, "2.8.3")
    monkeypatch.setenv("PYTHONPATH", str(apps))
    shadowed, _warnings = describe_environment(str(tmp_path / "venv"), ["*"], run, os.environ)
    assert shadowed["shadows"] == {
        "flash-attn": {
            "module": "flash_attn",
            "file": str(apps / "flash_attn" / "__init__.py"),
            "version": "2.7.3",
            "place": "on PYTHONPATH",
        }
    }
    assert shadowed["distributions"]["flash-attn"] == "2.7.3"


def test_of_the_extensions_that_are_asked_for_by_name_those_that_are_not_whole_are_told(venv, packages, tmp_path, run):
    install(venv, build_wheel(tmp_path))
    install(venv, build_wheel(tmp_path, name="einops", version="0.8.1"))

    def damage(*names):
        return describe_environment(str(venv), names, run, os.environ)[0]["damage"]

    assert damage("flash-attn", "einops") == {}
    (packages / "flash_attn" / "__init__.py").write_text("# patched\n")
    (packages / "einops" / "__init__.py").write_text("# patched\n")
    assert damage(ALL_DISTRIBUTIONS) == {}
    assert damage(ALL_DISTRIBUTIONS, "Flash_Attn", "einops") == {
        "flash-attn": {"missing": [], "changed": ["flash_attn/__init__.py"]}
    }


def test_files_of_an_extension_that_is_elsewhere_are_not_looked_at(make_venv, tmp_path, run, monkeypatch):
    venv, elsewhere = make_venv(), tmp_path / "elsewhere"
    metadata = elsewhere / "flash_attn-2.8.3.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Name: flash-attn\n")
    (metadata / "RECORD").write_text("flash_attn/__init__.py,,\n")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    environment, _warnings = describe_environment(str(venv), ["flash-attn"], run, os.environ)
    assert (environment["distributions"], environment["damage"]) == ({"flash-attn": "2.8.3"}, {})


def test_a_record_whose_files_are_gone_does_not_hide_what_is_imported(make_venv, run, tmp_path, monkeypatch):
    packages, apps = site_packages(make_venv()), tmp_path / "apps"
    (packages / "flash_attn").mkdir()
    (packages / "flash_attn" / "__init__.py").touch()
    record(packages, "flash_attn", "2.8.3")
    record(apps, "flash_attn", "2.7.3")
    monkeypatch.setenv("PYTHONPATH", str(apps))
    environment, _warnings = describe_environment(str(tmp_path / "venv"), ["*"], run, os.environ)
    assert (environment["shadows"], environment["distributions"]["flash-attn"]) == ({}, "2.8.3")


def test_a_star_stands_for_all_installed_distributions(venv, run):
    environment, _warnings = describe_environment(str(venv), [ALL_DISTRIBUTIONS, "einops"], run, os.environ)
    assert environment["distributions"]["einops"] is None
    assert environment["distributions"]["pip"] == environment["installers"]["pip"]


def test_an_environment_without_installers_has_none(make_venv, run, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert describe_environment(str(make_venv()), [], run, os.environ)[0]["installers"]["reason"].startswith(
        "there is no uv in"
    )


def test_a_missing_libstdcxx_is_a_warning(make_venv, run, monkeypatch):
    from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import system

    monkeypatch.setattr(system, "_SYSTEM_LIBRARIES", ())
    environment, warnings = describe_environment(str(make_venv()), [], run, os.environ)
    assert environment["platform"]["libstdcxx"] is None
    assert ["libstdc++.so.6" in warning for warning in warnings] == [True]


def test_packages_that_cannot_be_read_are_an_error_that_says_so(make_venv, run, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    venv = make_venv()
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(TorchExtensionError, match=f"packages of {venv}/bin/python cannot be read.*denied.*become_user"):
        describe_environment(str(venv), [], run, os.environ)


def test_environments_come_in_their_order_with_the_same_gpus_and_all_warnings(make_venv, make_torch, run):
    venvs = [str(make_venv(name)) for name in "ba"]
    for venv in venvs:
        make_torch(site_packages(Path(venv)), library=b"neither")
    environments, warnings = describe_environments([*venvs, sys._base_executable], [], run, os.environ)
    assert [item["python"]["prefix"] for item in environments[:2]] == venvs
    assert environments[2]["python"]["prefix"] == sys.base_prefix
    assert [venv for venv in venvs for warning in warnings if f"{venv}/" in warning and "C++ ABI" in warning] == venvs
    assert [item["gpus"] for item in environments] == [environments[0]["gpus"]] * 3


def test_all_faults_are_in_one_error(make_venv, run, tmp_path, make_torch):
    venv = make_venv()
    shutil.rmtree(make_torch(site_packages(venv)) / "lib")
    with pytest.raises(TorchExtensionError) as error:
        describe_environments([str(tmp_path / "none"), str(venv), sys._base_executable], [], run, os.environ)
    assert ["No interpreter at" in line or "torch is broken" in line for line in str(error.value).splitlines()] == [
        True,
        True,
    ]


def test_describing_environments_imports_only_what_it_needs(make_venv):
    code = f"""
import os, subprocess, sys
sys.path[:] = {sys.path!r}
from {describe_environments.__module__} import describe_environments
def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr
describe_environments(sys.argv[2:], ["*"], run, os.environ, sys.argv[1].split())
print(*(".".join(name.split(".")[-2:]) for name in sys.modules))
"""

    bare = make_venv()  # its pip cannot be asked

    def imported(sdists):
        done = subprocess.run([sys.executable, "-c", code, sdists, bare], stdout=subprocess.PIPE, text=True, check=True)
        return {"_pip.sdists", "_pip.cache", "_node.records", "_install.replacement", "configparser", "csv"} & set(
            done.stdout.split()
        )

    assert imported("") == set()
    assert imported("flash-attn==2.8.3") == {"_pip.sdists"}
