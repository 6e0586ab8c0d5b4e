# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import query_interpreter

TELL_PATH = "import json, sys; print(json.dumps([sys.prefix, sys.path]))"


def told_by_the_interpreter_itself(executable):
    prefix, path = json.loads(subprocess.check_output([executable, "-c", TELL_PATH], text=True, cwd="/"))
    return prefix, tuple(folder for folder in path if folder.endswith(("site-packages", "dist-packages")))


@pytest.mark.parametrize("way", ["folder", "interpreter", "link to the folder", "command"])
def test_a_venv_is_found_however_it_is_named(way, make_venv, run, tmp_path, monkeypatch):
    venv = make_venv()
    (tmp_path / "current").symlink_to(venv)
    monkeypatch.setenv("PATH", f"{venv}/bin")
    named = {
        "folder": venv,
        "interpreter": venv / "bin" / "python3",
        "link to the folder": tmp_path / "current",
        "command": "python",
    }
    found = query_interpreter(str(named[way]), run)
    assert os.path.samefile(found.prefix, venv)
    assert found.is_venv
    assert found.version == "{}.{}.{}".format(*sys.version_info[:3])
    assert (found.tag, found.implementation) == ("cp{}{}".format(*sys.version_info[:2]), "cpython")


@pytest.mark.parametrize("kind", ["venv", "venv with system packages", "base"])
def test_the_folders_of_packages_are_those_of_the_interpreter_itself(kind, make_venv, run):
    user = subprocess.check_output([sys._base_executable, "-m", "site", "--user-site"], text=True).strip()
    os.makedirs(user)
    executable = sys._base_executable
    if kind != "base":
        executable = str(make_venv(system_site_packages="system" in kind) / "bin" / "python")
    found = query_interpreter(executable, run)
    assert (found.prefix, sorted(found.site_packages)) == (
        told_by_the_interpreter_itself(executable)[0],
        sorted(told_by_the_interpreter_itself(executable)[1]),
    )
    assert (user in found.site_packages) == (kind != "venv")


def test_the_first_folder_is_the_one_that_pip_installs_into(make_venv, run):
    venv = make_venv(system_site_packages=True)
    assert query_interpreter(str(venv), run).site_packages[0].startswith(str(venv))


def test_no_code_of_the_environment_runs(make_venv, run, tmp_path):
    venv = make_venv()
    packages = query_interpreter(str(venv), run).site_packages[0]
    marker = tmp_path / "ran"
    with open(os.path.join(packages, "code.pth"), "w") as file:
        file.write(f"import pathlib; pathlib.Path({str(marker)!r}).touch()\n")
    query_interpreter(str(venv), run)
    assert not marker.exists()
    run([str(venv / "bin" / "python"), "-c", ""])
    assert marker.exists(), "this .pth file would not have told"


def answering(run, **changes):
    """The real answer of a real interpreter, but for some facts of another build of Python."""

    def changed(command):
        status, out, err = run(command)
        return status, repr({**ast.literal_eval(out), **changes}), err

    return changed


@pytest.mark.parametrize(
    ("build", "tag", "abi"),
    [
        ({"nodot": "37", "pymalloc": True}, "cp37", "cp37m"),
        ({"nodot": "38"}, "cp38", "cp38"),
        ({"nodot": "313", "free_threaded": True}, "cp313", "cp313t"),
        ({"nodot": "313", "free_threaded": True, "debug": True}, "cp313", "cp313td"),
        ({"nodot": "310", "implementation": "pypy"}, "pp310", "pp310"),
    ],
    ids=["3.7", "plain", "free-threaded", "free-threaded debug", "PyPy"],
)
def test_tags_of_other_builds(build, tag, abi, make_venv, run):
    found = query_interpreter(str(make_venv()), answering(run, **build))
    assert (found.tag, found.abi) == (tag, abi)


def test_the_operating_systems_python_is_externally_managed_and_a_venv_of_it_is_not(make_venv, run, tmp_path):
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    stdlib = str(tmp_path)
    assert query_interpreter(sys._base_executable, answering(run, stdlib=stdlib)).externally_managed
    assert not query_interpreter(sys._base_executable, answering(run, stdlib="/nowhere")).externally_managed
    assert not query_interpreter(str(make_venv()), answering(run, stdlib=stdlib)).externally_managed


def test_a_missing_interpreter_is_an_error_that_says_what_was_searched_for(tmp_path, run, monkeypatch):
    monkeypatch.setenv("PATH", "/somewhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to("/gone/python3.9")
    (tmp_path / "text").write_text("")
    for python, words in {
        str(tmp_path / "none"): [f"{tmp_path}/none does not exist"],
        str(tmp_path / "empty"): ["empty/bin/python does not exist", "empty/bin/python3 does not exist"],
        str(tmp_path / "dangling"): ["is a link to /gone/python3.9, which does not exist"],
        str(tmp_path / "text"): ["cannot be executed"],
        "python3.99": ["No command 'python3.99'", "/somewhere"],
    }.items():
        with pytest.raises(TorchExtensionError) as error:
            query_interpreter(python, run)
        for word in [*words, "torch_extension_python"]:
            assert word in str(error.value)


@pytest.mark.parametrize(
    ("script", "last_words"),
    [
        ("echo 'libpython3.so: cannot open' >&2; exit 127", "exit status 127: libpython3.so: cannot open"),
        ("echo 'Usage: something else'", "exit status 0: Usage: something else"),
        ("exit 1", "exit status 1: no output"),
    ],
    ids=["broken", "something else", "silent"],
)
def test_a_program_that_is_not_python_is_an_error_with_its_last_line(script, last_words, tmp_path, run):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(TorchExtensionError, match="does not answer as a Python 3 interpreter") as error:
        query_interpreter(str(program), run)
    assert last_words in str(error.value)
