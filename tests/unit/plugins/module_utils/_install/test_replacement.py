# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kills import kills_at_each_write
from other_users import OWNER, as_user, give, needs_root
from wheels import as_wanted, build_wheel, tree_state

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import replacement, site_packages
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import leftovers
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import (
    ALL_DISTRIBUTIONS,
    describe_environment,
)

#: A package of a folder, a module beside it and metadata, as flash-attn is: old and new must not be mixed.
HALF = "import flash_attn_2_cuda\nif flash_attn_2_cuda.V != V: raise ImportError('half')\n"
INSTALL = """
import json, os, subprocess, sys
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install import site_packages
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import environment as node
def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr
wheel, folder, venv = json.loads(sys.argv[1])
environment = node.describe_environment(venv, [], run, os.environ)[0]
site_packages.install([wheel], [], folder, environment, run, "import")
"""


def files(version, more=0):
    return {
        "flash_attn/__init__.py": f"V = {version!r}\n{HALF}",
        "flash_attn_2_cuda.py": f"V = {version!r}\n",
        **{f"flash_attn/kernel_{number}.py": f"V = {version!r}\n" for number in range(more)},
    }


@pytest.fixture
def site(tmp_path):
    """A folder of packages that has an old version, and a scratch place in it with the new one."""
    folder = tmp_path / "site"
    new = folder / ".torch_extension-x" / "new"
    for place, version in ((folder, "2.8.2"), (new, "2.8.3")):
        place.mkdir(parents=True)
        shutil.unpack_archive(build_wheel(tmp_path, version=version, files=files(version)), place, "zip")
    (new.parent / "old").mkdir()
    return folder


def new_of(site):
    return str(site / ".torch_extension-x" / "new")


def state(site):
    return {path: value for path, value in tree_state(site).items() if "/.torch_extension-" not in path}


def version(site):
    """What can be imported: nothing of it, if it is half."""
    command = [
        sys.executable,
        "-I",
        "-B",
        "-c",
        "import sys; sys.path[:0] = sys.argv[1:]; import flash_attn as f; print(f.V)",
    ]
    return subprocess.run([*command, site], capture_output=True, text=True, check=False).stdout.strip()


def test_the_new_version_takes_the_place_of_the_old_one_whole(site):
    wanted = {Path(path).relative_to(new_of(site)): value for path, value in tree_state(Path(new_of(site))).items()}
    replacement.carry_out(replacement.plan_exchange(new_of(site), str(site)), new_of(site), str(site))
    assert {
        Path(path).relative_to(site): value for path, value in state(site).items() if "torch_ext" not in path
    } == wanted
    assert version(site) == "2.8.3"
    assert replacement.remove_leftovers(str(site)) == [".torch_extension-x"]
    assert not list(site.glob(".torch*"))


def test_killed_at_any_rename_the_next_run_finishes(site, tmp_path, monkeypatch):
    """Every single one, which is too little time to be hit by chance."""
    exchange, rename, counts = replacement.plan_exchange(new_of(site), str(site)), os.rename, []
    for last in range(20):
        copy = tmp_path / f"copy{last}"
        shutil.copytree(site, copy)
        left = iter(range(last))

        def killed(source, target, left=left, **folders):
            if next(left, None) is None:
                raise KeyboardInterrupt
            rename(source, target, **folders)

        monkeypatch.setattr(os, "rename", killed)
        try:
            replacement.carry_out(exchange, new_of(copy), str(copy))
        except KeyboardInterrupt:
            counts.append(last)
        finally:
            monkeypatch.undo()
        assert leftovers.find_leftovers(str(copy)) == [".torch_extension-x"]
        replacement.remove_leftovers(str(copy))
        assert version(copy) == "2.8.3"
        assert sorted(entry.name for entry in copy.iterdir()) == [
            "flash_attn", "flash_attn-2.8.3.dist-info", "flash_attn_2_cuda.py"
        ]  # fmt: skip
    assert counts == list(range(6))  # one goes, three come, two of them in the place of something


def test_killed_at_any_write_the_next_run_finishes_or_discards_it(site, tmp_path):
    """SIGKILL at each one, so that what ``finally`` and ``with`` clear away stays."""
    copy, other, found = tmp_path / "copy", tmp_path / "other", set()

    def exchange():
        with replacement.scratch_folder(str(copy)) as new:
            shutil.copytree(other, new, dirs_exist_ok=True)
            replacement.carry_out(replacement.plan_exchange(new, str(copy)), new, str(copy))

    def begin_again():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(site, copy)

    shutil.copytree(new_of(site), other)
    shutil.rmtree(site / ".torch_extension-x")
    begin_again()
    for _changes in kills_at_each_write(exchange):
        replacement.remove_leftovers(str(copy))
        found.add(version(copy))
        assert not list(copy.rglob(".torch*"))
        begin_again()
    assert found == {"2.8.2", "2.8.3"}
    assert version(copy) == "2.8.3"


PLAN = {"format": 1, "goes": [], "comes": []}


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({**PLAN, "goes": ["../victim"]}, "it removes '../victim', which is no path in the environment"),
        ({**PLAN, "goes": ["{victim}"]}, "which is no path in the environment"),
        ({**PLAN, "goes": ["flash_attn/../../victim"]}, "which is no path in the environment"),
        ({**PLAN, "goes": ["link/victim"]}, "which is no path in the environment"),
        ({**PLAN, "goes": [".."]}, "which is no path in the environment"),
        ({**PLAN, "goes": ["."]}, "which is no path in the environment"),
        ({**PLAN, "goes": ["a\0b"]}, "which is no path in the environment"),
        ({**PLAN, "comes": ["../victim"]}, "it brings '../victim', which is no name in the folder"),
        ({**PLAN, "comes": ["/victim"]}, "which is no name in the folder"),
        ({**PLAN, "comes": [""]}, "which is no name in the folder"),
        ({**PLAN, "comes": "flash_attn"}, "its 'comes' are no names"),
        ({**PLAN, "goes": [1]}, "its 'goes' are no names"),
        ({**PLAN, "format": 2}, "it is none of format 1"),
        ({"goes": ["flash_attn"], "comes": []}, "it is none of format 1"),
        ([], "it is none of format 1"),
        ("[" * 100_000, "it is no JSON"),
        (" " * (5 << 20), "it has more than 4194304 bytes"),
        ("", "it is no JSON"),
    ],
)
def test_a_plan_that_is_none_of_ours_is_told_and_not_carried_out(plan, reason, site, tmp_path):
    (tmp_path / "victim").write_text("of somebody else")
    (site / "link").symlink_to(tmp_path)
    before = state(site)
    text = plan if isinstance(plan, str) else json.dumps(plan).replace("{victim}", str(tmp_path / "victim"))
    (site / ".torch_extension-x" / "plan.json").write_text(text)
    warnings = []
    assert replacement.remove_leftovers(str(site), warn=warnings.append) == [".torch_extension-x"]
    (warning,) = warnings
    assert "plan.json was not written by this collection: " in warning
    assert reason in warning
    assert (tmp_path / "victim").read_text() == "of somebody else"
    assert state(site) == before
    assert not list(site.glob(".torch*"))


def test_a_plan_that_is_a_link_is_not_read(site, tmp_path):
    (tmp_path / "plan").write_text(json.dumps({**PLAN, "goes": ["flash_attn"]}))
    (site / ".torch_extension-x" / "plan.json").symlink_to(tmp_path / "plan")
    warnings = []
    replacement.remove_leftovers(str(site), warn=warnings.append)
    assert "it cannot be opened" in warnings[0]
    assert version(site) == "2.8.2"


@needs_root
def test_a_plan_of_a_stranger_is_not_carried_out(site):
    plan = site / ".torch_extension-x" / "plan.json"
    plan.write_text(json.dumps({**PLAN, "goes": ["flash_attn"]}))
    os.chown(plan, OWNER, OWNER)
    warnings = []
    replacement.remove_leftovers(str(site), warn=warnings.append)
    assert "no file of the owner of the packages" in warnings[0]
    assert version(site) == "2.8.2"


@needs_root
def test_root_follows_no_link_that_a_user_puts_into_the_way_of_an_exchange(site, open_folder, tmp_path, monkeypatch):
    """The link comes after the plan was looked at."""
    folder, outside = open_folder / "site", tmp_path / "outside"
    shutil.copytree(site, folder)
    give(folder, OWNER)
    outside.mkdir()
    (outside / "__init__.py").write_text("of root")
    plan = {**PLAN, "goes": ["flash_attn/__init__.py"]}
    (folder / ".torch_extension-x" / "plan.json").write_text(json.dumps(plan))
    finish = replacement._finish

    def swapped(exchange, folders):
        (folder / "flash_attn").rename(folder / "moved")
        (folder / "flash_attn").symlink_to(outside)
        finish(exchange, folders)

    monkeypatch.setattr(replacement, "_finish", swapped)
    with pytest.raises(OSError, match="flash_attn"):
        replacement.remove_leftovers(str(folder))
    assert (outside / "__init__.py").read_text() == "of root"


def test_what_a_running_installation_works_on_is_no_leftover(site):
    shutil.rmtree(site / ".torch_extension-x")
    with replacement.scratch_folder(str(site)):
        assert leftovers.find_leftovers(str(site)) == []
        assert len(list(site.glob(".torch*"))) == 1


@needs_root
def test_what_root_has_begun_in_the_environment_of_another_user_that_one_can_finish(site, open_folder, monkeypatch):
    folder = open_folder / "site"
    shutil.copytree(site, folder)
    give(folder, OWNER)
    give(folder / ".torch_extension-x", 0)
    (folder / ".torch_extension-x").chmod(0o700)
    rename, left = os.rename, iter(range(2))

    def killed(source, target, **folders):
        if next(left, None) is None:
            raise KeyboardInterrupt
        rename(source, target, **folders)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            replacement.carry_out(replacement.plan_exchange(new_of(folder), str(folder)), new_of(folder), str(folder))
    with as_user(OWNER):
        assert replacement.remove_leftovers(str(folder)) == [".torch_extension-x"]
    assert version(folder) == "2.8.3"
    assert not list(folder.glob(".torch*"))


def test_killed_before_the_first_rename_the_next_run_discards_it(site):
    before = state(site)
    replacement.plan_exchange(new_of(site), str(site))
    replacement.remove_leftovers(str(site))
    assert state(site) == before
    assert version(site) == "2.8.2"


@pytest.mark.parametrize("fails", range(6))
def test_after_an_error_everything_is_as_before(fails, site, monkeypatch):
    before, rename, calls = state(site), os.rename, iter(range(100))

    def fail_once(source, target, **folders):
        if next(calls) == fails:
            raise PermissionError(13, "Permission denied", source)
        rename(source, target, **folders)

    exchange = replacement.plan_exchange(new_of(site), str(site))
    monkeypatch.setattr(os, "rename", fail_once)
    with pytest.raises(
        TorchExtensionError, match=r"cannot be replaced: Permission denied. Nothing was changed.*become"
    ):
        replacement.carry_out(exchange, new_of(site), str(site))
    assert state(site) == before
    replacement.remove_leftovers(str(site))
    assert state(site) == before


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("flash_attn/notes.txt", "mine"),
        ("other-1.dist-info/RECORD", "flash_attn/plugin.py,,\nother-1.dist-info/METADATA,,\n"),
        ("flash_attn-2.8.2.dist-info/RECORD", "../../../bin/tool,,\nflash_attn/__init__.py,,\n"),
        (".torch_extension-x/new/flash_attn-2.8.3.dist-info/RECORD", "../../bin/tool,,\nflash_attn/__init__.py,,\n"),
    ],
    ids=["a stranger's file", "a shared folder", "scripts go", "scripts come"],
)
def test_there_is_no_plan_where_renames_are_not_enough(path, content, site):
    (site / path).parent.mkdir(exist_ok=True)
    (site / "other-1.dist-info").mkdir(exist_ok=True)
    (site / "other-1.dist-info" / "METADATA").touch()
    (site / path).write_text(content)
    assert replacement.plan_exchange(new_of(site), str(site)) is None


def test_without_a_record_there_is_a_plan_if_what_comes_has_all_the_files(site):
    (site / "flash_attn-2.8.2.dist-info" / "RECORD").unlink()
    exchange = replacement.plan_exchange(new_of(site), str(site))
    assert exchange.goes == ["flash_attn-2.8.2.dist-info"]
    (site / "flash_attn" / "old.py").touch()
    assert replacement.plan_exchange(new_of(site), str(site)) is None


def test_there_is_no_plan_for_what_setuptools_has_linked_whose_record_only_an_installer_can_remove(site):
    shutil.rmtree(site / "flash_attn")
    (site / "flash_attn_2_cuda.py").unlink()
    shutil.rmtree(site / "flash_attn-2.8.2.dist-info")
    (site / "flash_attn-2.8.2.egg-info").mkdir()
    assert replacement.plan_exchange(new_of(site), str(site)) is None


def test_compiled_files_of_python_do_not_prevent_a_plan(site):
    (site / "flash_attn" / "__pycache__").mkdir()
    (site / "flash_attn" / "__pycache__" / "x.cpython-311.pyc").touch()
    assert replacement.plan_exchange(new_of(site), str(site)).goes == ["flash_attn-2.8.2.dist-info"]


def test_unpacked_files_are_synced_in_the_background_and_all_of_them_in_the_end(site, monkeypatch):
    started, goes_on, synced = threading.Event(), threading.Event(), []

    def sync(path):
        started.set()
        assert goes_on.wait(10)
        synced.append(os.path.relpath(path, new_of(site)))

    monkeypatch.setattr(atomic, "sync", sync)
    with replacement.syncing(new_of(site)):
        assert started.wait(10), "it is under way"
        assert synced == []
        goes_on.set()
    assert {"flash_attn/__init__.py", "flash_attn_2_cuda.py", "flash_attn"} <= set(synced)


def test_a_sync_that_fails_in_the_background_fails_the_exchange(site, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(atomic, "sync", fail)
    unhandled = []
    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    with replacement.syncing(new_of(site)):
        pass
    assert unhandled == []
    with pytest.raises(OSError, match="Input/output error"):
        replacement.carry_out(replacement.plan_exchange(new_of(site), str(site)), new_of(site), str(site))
    assert version(site) == "2.8.2"


def test_after_an_error_the_background_sync_is_not_awaited(site, monkeypatch):
    goes_on = threading.Event()
    monkeypatch.setattr(atomic, "sync", lambda path: goes_on.wait(10))
    begin = time.monotonic()
    with pytest.raises(KeyError), replacement.syncing(new_of(site)):
        raise KeyError
    assert time.monotonic() - begin < 5
    goes_on.set()


def test_a_wheel_with_a_script_is_installed_with_it(venv, run, tmp_path):
    script = ("flash_attn-2.8.3.data/scripts/attend", b"#!python\n")
    wheel = as_wanted(build_wheel(tmp_path, extra=[script]))
    environment = describe_environment(str(venv), [ALL_DISTRIBUTIONS], run, os.environ)[0]
    site_packages.install([wheel], [], str(tmp_path), environment, run, "import")
    assert (venv / "bin" / "attend").read_text().startswith(f"#!{venv}")
    assert leftovers.find_leftovers(environment["python"]["site_packages"]) == []


@pytest.mark.slow
def test_killed_at_any_moment_there_is_the_old_version_or_the_new_one_and_the_next_run_clears_up(venv, run, tmp_path):
    """A real pip in a process group of its own, killed with SIGKILL at moments spread at random over an installation."""
    moments = random.Random(1)  # noqa: S311
    wheels = {v: as_wanted(build_wheel(tmp_path, version=v, files=files(v, 40)), version=v) for v in ("2.8.2", "2.8.3")}
    environment = describe_environment(str(venv), [ALL_DISTRIBUTIONS], run, os.environ)[0]
    packages = environment["python"]["site_packages"]
    collections = str(Path(next(iter(ansible_collections.__path__))).parent)

    def start(wheel):
        arguments = json.dumps([wheel, str(tmp_path), str(venv)])
        environ = {**os.environ, "PYTHONPATH": collections}
        return subprocess.Popen([sys.executable, "-c", INSTALL, arguments], env=environ, start_new_session=True)

    begin = time.monotonic()
    assert start(wheels["2.8.2"]).wait() == 0
    duration = time.monotonic() - begin
    debris = 0
    for _round in range(int(os.environ.get("KILLS", "8"))):
        before = version(packages)
        wanted = "2.8.2" if before == "2.8.3" else "2.8.3"
        process = start(wheels[wanted])
        time.sleep(moments.uniform(0.2, 1.05) * duration)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        found = version(packages)
        assert found in (before, wanted)
        debris += len(leftovers.find_leftovers(packages))
        site_packages.remove_leftovers([], environment)
        assert [name for name in os.listdir(packages) if name.startswith((".torch", "~"))] == []
        assert version(packages) == found
    assert debris
    assert run([venv / "bin" / "python", "-m", "pip", "check"])[0] == 0
