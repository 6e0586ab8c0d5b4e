# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from other_users import needs_root
from venvs import site_packages
from wheels import LABEL, as_wanted, build_wheel, tree_state

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import replacement
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.site_packages import install
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.site_packages_removal import (
    plan_removal,
    remove,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import leftovers, ownership
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.damage import find_damage
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import find_installed
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import describe_environment

pytestmark = pytest.mark.slow  # most of them run pip

SCRIPT = ("flash_attn-2.8.3.data/scripts/attend", b"#!python\n")
REMOVE = """
import json, os, subprocess, sys
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import site_packages_removal
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import environment as node
def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr
environment = node.describe_environment(sys.argv[1], [], run, os.environ)[0]
site_packages_removal.remove(["flash-attn"], environment, run)
"""


class Node:
    """A real environment, into which wheels are installed as the module does it, or by hand."""

    def __init__(self, venv, folder, run):
        self.venv, self.folder, self.run = venv, folder, run
        self.packages = site_packages(venv)

    @property
    def environment(self):
        return describe_environment(str(self.venv), [], self.run, os.environ, trusted_owners=["12345"])[0]

    def install(self, *requirements, **wheel):
        """Install flash-attn as the module does, with requirements: names, or options of ``build_wheel``."""
        wanted = as_wanted(build_wheel(self.folder, **{"label": LABEL, **wheel}))
        brought = [build_wheel(self.folder, **{"version": "1", **options}) for options in requirements]
        files = [as_wanted(path, path.name.split("-")[0], "1") for path in brought]
        install([wanted], files, str(self.folder), self.environment, self.run, "none")

    def install_by_hand(self, *options, **wheel):
        path = str(build_wheel(self.folder, **{"version": "1", **wheel}))
        installer = [str(self.venv / "bin/python"), "-m", "pip"] if (self.packages / "pip").exists() else ["uv", "pip"]
        python = ["--python", str(self.venv)] if installer[0] == "uv" else []
        status, _out, err = self.run([*installer, "install", "-q", *python, "--no-index", "--no-deps", *options, path])
        assert status == 0, err

    def remove(self, *names):
        return remove(list(names or ["flash-attn"]), self.environment, self.run)

    def foresee(self, *names):
        return plan_removal(list(names or ["flash-attn"]), self.environment)

    def installed(self):
        return set(find_installed([str(self.packages)])) - {"pip"}

    def state(self):
        return {
            path: what
            for path, what in tree_state(self.venv).items()
            if "/pip" not in path and not path.endswith("/.lock")
        }  # of uv


@pytest.fixture
def node(venv, tmp_path, run, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return Node(venv, tmp_path / "delivered", run)


@pytest.fixture(params=["pip", "uv"])
def any_node(request, make_venv, tmp_path, run, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return Node(make_venv(pip=request.param == "pip"), tmp_path / "delivered", run)


def test_a_package_goes_with_what_came_with_it_and_nothing_is_left(any_node):
    before = any_node.state()
    any_node.install({"name": "einops"}, requires=["torch", "einops>=0.6"])
    assert any_node.installed() == {"flash-attn", "einops"}
    foreseen = any_node.foresee()
    assert any_node.state() != before
    done = any_node.remove()
    assert done == foreseen
    assert (done.packages[0].action, done.packages[0].reason) == ("remove", "flash-attn 2.8.3 is installed")
    assert (done.requirements, done.stays, done.changes) == (["einops 1"], [], True)
    assert any_node.state() == before
    again = any_node.remove()
    assert (again.changes, again.packages[0].action) == (False, "keep")
    assert again.packages[0].reason == f"flash-attn is not installed in {any_node.packages}"


def test_what_came_as_a_requirement_is_whole_and_marked_as_asked_for_by_nobody(any_node):
    any_node.install({"name": "einops"}, requires=["einops"])
    found = find_installed([str(any_node.packages)])
    assert (Path(found["flash-attn"].path) / "REQUESTED").exists()
    assert not (Path(found["einops"].path) / "REQUESTED").exists()
    assert not find_damage(found["einops"], reads_all=True)
    assert "REQUESTED" not in (Path(found["einops"].path) / "RECORD").read_text()


def test_with_an_installer_that_has_to_run_in_place_requirements_are_marked_too(node):
    node.install({"name": "einops"}, requires=["einops"], extra=[SCRIPT])
    assert not (node.packages / "einops-1.dist-info/REQUESTED").exists()
    assert node.remove().requirements == ["einops 1"]


def test_what_somebody_has_installed_stays(any_node):
    any_node.install_by_hand(name="einops")
    any_node.install(requires=["einops"])
    assert (any_node.remove().requirements, any_node.installed()) == ([], {"einops"})


def test_what_pip_has_brought_for_something_else_stays(node):
    shelf = node.folder.with_name("shelf")
    build_wheel(shelf, name="einops", version="1"), build_wheel(shelf, name="timm", version="1", requires=["einops"])
    pip = [str(node.venv / "bin/python"), "-m", "pip"]
    assert node.run([*pip, "install", "-q", "--no-index", "--find-links", str(shelf), "timm"])[0] == 0
    assert node.run([*pip, "uninstall", "-q", "--yes", "timm"])[0] == 0
    node.install(requires=["einops"])
    assert not (node.packages / "einops-1.dist-info/REQUESTED").exists()
    assert (node.remove().requirements, node.installed()) == ([], {"einops"})


def test_what_somebody_has_asked_for_since_stays(any_node):
    any_node.install({"name": "einops"}, requires=["einops"])
    any_node.install_by_hand(
        "--reinstall" if any_node.run(["uv"]) and not (any_node.packages / "pip").exists() else "--force-reinstall",
        name="einops",
    )
    assert (any_node.remove().requirements, any_node.installed()) == ([], {"einops"})


@pytest.mark.parametrize("line", ["einops", 'Einops>=0.6; extra == "vision"', "einops[all] (>=0.6)"])
def test_what_another_distribution_needs_stays_and_it_is_told_which_one(line, node):
    node.install({"name": "einops"}, {"name": "ninja"}, requires=["einops", "ninja"])
    node.install_by_hand(name="timm", requires=[line])
    done = node.remove()
    assert (done.requirements, done.stays) == (["ninja 1"], ["einops 1 (timm 1 needs it)"])
    assert node.installed() == {"einops", "timm"}


def test_what_only_requirements_that_go_need_goes_and_what_one_that_stays_needs_stays(node):
    chain = [
        {"name": "einops", "requires": ["typing-extensions", "ninja"]},
        {"name": "typing-extensions", "requires": ["einops"]},  # in a circle
        {"name": "packaging", "requires": ["ninja"]},
        {"name": "ninja"},
    ]
    node.install(*chain, requires=["einops", "packaging"])
    node.install_by_hand(name="timm", requires=["packaging"])
    done = node.remove()
    assert done.requirements == ["einops 1", "typing-extensions 1"]
    assert done.stays == ["packaging 1 (timm 1 needs it)", "ninja 1 (packaging 1 needs it)"]
    assert node.installed() == {"packaging", "ninja", "timm"}


def test_a_requirement_that_two_packages_share_goes_with_the_last(node):
    node.install({"name": "einops"}, requires=["einops"])
    conv = as_wanted(build_wheel(node.folder, name="causal-conv1d", requires=["einops"]), "causal-conv1d")
    install([conv], [], str(node.folder), node.environment, node.run, "none")
    assert node.remove().stays == ["einops 1 (causal-conv1d 2.8.3 needs it)"]
    done = node.remove("flash-attn", "causal-conv1d")
    assert [package.action for package in done.packages] == ["keep", "remove"]
    assert (done.requirements, node.installed()) == (["einops 1"], set())


def test_a_need_anywhere_on_the_search_path_counts(node, tmp_path, monkeypatch):
    node.install({"name": "einops"}, requires=["einops"])
    user = tmp_path / "user/timm-1.dist-info"
    user.mkdir(parents=True)
    (user / "METADATA").write_text("Name: timm\nVersion: 1\nRequires-Dist: einops\n")
    monkeypatch.setenv("PYTHONPATH", str(user.parent))
    assert node.remove().stays == ["einops 1 (timm 1 needs it)"]


def test_scripts_go_too_and_files_that_nobody_has_recorded_stay_and_are_told(node):
    before = node.state()
    node.install(
        extra=[SCRIPT], files={"flash_attn/__init__.py": "", "flash_attn/ops/a.py": "", "flash_attn_2_cuda.py": ""}
    )
    node.run(
        [
            str(node.venv / "bin/python"),
            "-m",
            "compileall",
            "-q",
            str(node.packages / "flash_attn"),
            str(node.packages / "flash_attn_2_cuda.py"),
        ]
    )
    assert (node.packages / "__pycache__").exists()
    (node.packages / "flash_attn" / "notes.txt").write_text("mine")
    assert (node.venv / "bin/attend").exists()
    done = node.remove()
    assert done.stays == [f"{node.packages}/flash_attn/notes.txt (no distribution has recorded it)"]
    (node.packages / "flash_attn" / "notes.txt").unlink()
    (node.packages / "flash_attn").rmdir()  # it is empty
    assert node.state() == before


def test_files_of_another_distribution_in_the_same_folder_stay(node):
    """flash-attn-4 has its files in a folder of flash-attn's."""
    node.install(files={"flash_attn/__init__.py": "", "flash_attn/cute/__init__.py": "", "flash_attn/a/b.py": ""})
    node.install_by_hand(name="flash_attn_4", files={"flash_attn/cute/__init__.py": "REAL = 1\n"})
    done = node.remove()
    assert done.stays == [f"{node.packages}/flash_attn/cute/__init__.py (flash-attn-4 1 has it, too)"]
    assert [str(path.relative_to(node.packages)) for path in node.packages.glob("flash_attn/**/*.py")] == [
        "flash_attn/cute/__init__.py"
    ]
    assert find_damage(find_installed([str(node.packages)])["flash-attn-4"]).missing == []


def test_what_a_record_names_outside_of_the_environment_stays(node, tmp_path):
    node.install()
    outside = tmp_path / "outside.txt"
    outside.touch()
    (node.venv / "inside.txt").touch()
    record = node.packages / "flash_attn-2.8.3.dist-info/RECORD"
    record.write_text(
        record.read_text() + f"{outside},,\n{node.venv}/inside.txt,,\n../../../../../../../etc/nowhere,,\n"
    )
    done = node.remove()
    assert f"{outside} (it is outside of the environment)" in done.stays
    assert outside.exists()
    assert not (node.venv / "inside.txt").exists()


def test_a_copy_elsewhere_on_the_search_path_stays_and_is_told(node, tmp_path, monkeypatch):
    node.install()
    copy = tmp_path / "more/flash_attn"
    copy.mkdir(parents=True)
    (copy / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(copy.parent))
    done = node.remove()
    why = f"outside of {node.packages}, where alone packages are removed"
    assert done.stays == [f"{copy}/__init__.py (on PYTHONPATH; {why})"]
    assert copy.exists()
    (copy.parent / "flash_attn-2.7.0.dist-info").mkdir()
    (copy.parent / "flash_attn-2.7.0.dist-info/METADATA").touch()
    shutil.rmtree(copy)
    again = node.remove()
    assert (again.changes, again.stays) == (False, [f"flash-attn 2.7.0 in {copy.parent} ({why})"])


def put_egg(packages):
    """What setup.py install leaves of a package that was built on the node."""
    info = packages / "flash_attn-2.8.3-py3.11.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: flash-attn\nVersion: 2.8.3\n")
    (info / "installed-files.txt").write_text(
        "../flash_attn/__init__.py\nPKG-INFO\ntop_level.txt\ninstalled-files.txt\n"
    )
    (info / "top_level.txt").write_text("flash_attn\n")  # by which uv goes
    (packages / "flash_attn").mkdir()
    (packages / "flash_attn/__init__.py").touch()


def test_what_was_built_on_the_node_is_removed_by_the_environments_installer(any_node, monkeypatch):
    (any_node.packages / "other.py").touch()  # pip removes the folder itself where all else is links, as it is here
    before = any_node.state()
    put_egg(any_node.packages)
    monkeypatch.setenv("PIP_PYTHON", "/none")  # nobody's settings take part
    monkeypatch.setenv("UV_PYTHON", "/none")
    assert any_node.remove().packages[0].action == "remove"
    assert any_node.state() == before


def test_what_only_an_installer_can_remove_stays_where_there_is_none(make_venv, tmp_path, run, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    node = Node(make_venv(), tmp_path / "delivered", run)
    put_egg(node.packages)
    before = node.state()
    for act in (node.foresee, node.remove):
        with pytest.raises(TorchExtensionError, match=r"has no pip, and there is no uv in .*-m ensurepip"):
            act()
    assert node.state() == before


def test_what_the_installer_could_not_remove_is_told_in_its_words(node):
    info = node.packages / "flash_attn-2.8.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flash-attn\nVersion: 2.8.3\n")
    before = node.state()
    with pytest.raises(TorchExtensionError, match=r"pip of this node could not uninstall flash-attn: .*no RECORD"):
        node.remove()
    assert node.state() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"externally_managed": True}, "belongs to the operating system .*PEP 668"),
        ({}, "cannot write to .*which belongs to svc. Set become: true and become_user: svc"),
    ],
    ids=["the system's", "somebody else's"],
)
def test_an_environment_that_is_not_the_users_to_change_is_refused(changes, words, node, monkeypatch):
    node.install()
    environment, before = node.environment, node.state()
    environment["python"].update(changes)
    if not changes:
        access = {
            **ownership.describe_access(str(node.packages)),
            "is_owner": False,
            "owner": "svc",
            "environment_owner": "svc",
            "writable": False,
        }
        monkeypatch.setattr(ownership, "describe_access", lambda folder, prefix: access)
    for act in (
        lambda: plan_removal(["flash-attn"], environment),
        lambda: remove(["flash-attn"], environment, node.run),
    ):
        with pytest.raises(TorchExtensionError, match=words):
            act()
    assert node.state() == before
    assert not plan_removal(["causal-conv1d"], environment).changes, "where nothing has to be done, nothing is refused"


@needs_root
def test_root_leaves_no_files_of_its_own_in_the_environment_of_another_user(node):
    node.install({"name": "einops"}, requires=["einops"], extra=[SCRIPT])
    for path in (node.venv, *node.venv.rglob("*")):
        os.chown(path, 12345, 12346, follow_symlinks=False)
    assert node.remove().changes
    assert {path.lstat().st_uid for path in (node.venv, *node.venv.rglob("*"))} == {12345}
    put_egg(node.packages)
    with pytest.raises(TorchExtensionError, match=r"the installer would leave files of root.*become_user: 12345"):
        node.foresee()


def test_a_removal_that_fails_leaves_all_as_it_was(node, monkeypatch):
    node.install(extra=[SCRIPT], files={"flash_attn/__init__.py": "", "flash_attn/a/b.py": ""})
    (node.packages / "flash_attn/notes.txt").touch()
    before, rename = node.state(), os.rename
    for fails in range(4):
        calls = iter(range(100))

        def fail_once(source, target, calls=calls, fails=fails, **folders):
            if next(calls) == fails:
                raise PermissionError(13, "Permission denied", source)
            rename(source, target, **folders)

        monkeypatch.setattr(os, "rename", fail_once)
        with pytest.raises(TorchExtensionError, match=r"cannot be removed: Permission denied. Nothing was changed"):
            node.remove()
        monkeypatch.undo()
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        assert node.state() == before


def test_killed_at_any_rename_the_next_run_finishes(node, tmp_path, monkeypatch):
    empty = node.state()
    node.install({"name": "einops"}, requires=["einops"], extra=[SCRIPT])
    whole, rename, counts = tmp_path / "whole", os.rename, []
    shutil.copytree(node.venv, whole, symlinks=True)
    for last in range(20):
        shutil.rmtree(node.venv)
        shutil.copytree(whole, node.venv, symlinks=True)
        environment, left = node.environment, iter(range(last))

        def killed(source, target, left=left, **folders):
            if next(left, None) is None:
                raise KeyboardInterrupt
            rename(source, target, **folders)

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", killed)
            patched.setattr(
                replacement.shutil, "rmtree", lambda *args, **kwargs: None
            )  # a killed process clears nothing
            try:
                remove(["flash-attn"], environment, node.run)
            except KeyboardInterrupt:
                counts.append(last)
        assert node.foresee().changes
        assert node.remove().changes
        assert node.state() == empty
        assert not node.remove().changes
    assert counts == list(range(5))  # two packages, the metadata of each, and a script


def test_killed_at_any_moment_there_is_the_package_or_none_and_the_next_run_clears_up(node):
    """A real process in a group of its own, killed with SIGKILL at moments spread at random over a removal."""
    moments = random.Random(1)  # noqa: S311
    empty = node.state()
    files = {"flash_attn/__init__.py": "", **{f"flash_attn/kernel_{number}.py": "" for number in range(40)}}
    collections = str(Path(next(iter(ansible_collections.__path__))).parent)

    def start():
        environ = {**os.environ, "PYTHONPATH": collections}
        return subprocess.Popen([sys.executable, "-c", REMOVE, str(node.venv)], env=environ, start_new_session=True)

    node.install(files=files)
    begin = time.monotonic()
    assert start().wait() == 0
    duration = time.monotonic() - begin
    assert node.state() == empty
    for _round in range(int(os.environ.get("KILLS", "4"))):
        node.install(files=files)
        process = start()
        time.sleep(moments.uniform(0.5, 1.05) * duration)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        found = find_installed([str(node.packages)]).get("flash-attn")
        assert found is None or find_damage(found).missing == []
        node.remove()
        assert node.state() == empty
        assert leftovers.find_leftovers(str(node.packages)) == []
