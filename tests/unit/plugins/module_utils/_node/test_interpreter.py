# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from venvs import site_packages

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import query_interpreter
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.self_description import MARK

TELL_PATH = "import json, os, sys; print(json.dumps([sys.prefix, [p for p in sys.path if os.path.isdir(p)]]))"
TELL_FILE = "import {0}; print({0}.__file__)"


def told_by_the_interpreter_itself(executable):
    prefix, path = json.loads(subprocess.check_output([executable, "-c", TELL_PATH], text=True, cwd="/"))
    return prefix, [folder for folder in path if folder.endswith(("-packages", "-path", ".egg"))]


def imported_from(executable, module="flash_attn"):
    return subprocess.check_output([executable, "-c", TELL_FILE.format(module)], text=True, cwd="/").strip()


def user_site(executable) -> Path:
    return Path(
        subprocess.run(
            [executable, "-m", "site", "--user-site"], text=True, stdout=subprocess.PIPE, check=False
        ).stdout.strip()
    )


def put(folder: Path, module="flash_attn") -> Path:
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").touch()
    return folder / module / "__init__.py"


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


@pytest.fixture(params=["venv", "venv with system packages", "base", "base of the system"])
def executable(request, make_venv):
    """An interpreter whose user has packages of his own."""
    base = "/usr/bin/python3" if "of the system" in request.param else sys._base_executable
    if not os.path.exists(base):
        pytest.skip(f"there is no {base}")
    user_site(base).mkdir(parents=True)
    if "venv" in request.param:
        return str(make_venv(system_site_packages="system" in request.param) / "bin" / "python")
    return base


@pytest.mark.parametrize(
    "variables", [{}, {"PYTHONNOUSERSITE": "1"}, {"PYTHONPATH": "{tmp}/a-path:/nowhere:{tmp}/b-path"}]
)
def test_the_folders_of_packages_and_their_order_are_those_of_the_interpreter_itself(
    variables, executable, run, tmp_path, monkeypatch
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    for name in "ab":
        (tmp_path / f"{name}-path").mkdir()
    found = query_interpreter(executable, run)
    assert (found.prefix, [entry.folder for entry in found.path]) == told_by_the_interpreter_itself(executable)
    assert all(entry.owner == "variable" for entry in found.path if entry.folder.endswith("-path"))


def test_it_is_told_whose_each_folder_is(make_venv, run, tmp_path, monkeypatch):
    user = user_site(sys._base_executable)
    user.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    venv = make_venv(system_site_packages=True)
    own = site_packages(venv)
    (own / "more.pth").write_text(f"{tmp_path / 'venv'}\n")
    owners = {entry.folder: entry.owner for entry in query_interpreter(str(venv), run).path}
    assert [owners[str(folder)] for folder in (tmp_path, own, tmp_path / "venv", user)] == [
        "variable",
        "environment",
        "added",
        "user",
    ]
    assert "system" in owners.values()
    outside = {entry.folder: entry.owner for entry in query_interpreter(sys._base_executable, run).path}
    assert (outside[str(user)], list(outside.values())[-1]) == ("user", "environment")


def test_the_folder_of_packages_is_the_one_that_pip_installs_into(make_venv, run):
    for venv in (make_venv("plain"), make_venv("system", system_site_packages=True)):
        assert query_interpreter(str(venv), run).site_packages == str(site_packages(venv))


def in_users_site(executable, own, tmp_path, monkeypatch):
    return put(user_site(executable))


def on_pythonpath(executable, own, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"/nowhere:{tmp_path}/apps")
    return put(tmp_path / "apps")


def by_sitecustomize(executable, own, tmp_path, monkeypatch):
    """As EasyBuild's Python does with EBPYTHONPREFIXES."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(
        f"import sys\nsys.path.insert(0, {str(tmp_path / 'apps')!r})\nprint('hello')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "start"))
    return put(tmp_path / "apps")


def by_a_line_of_code_in_a_pth_file(executable, own, tmp_path, monkeypatch):
    """As easy_install wrote its eggs before all else."""
    (own / "easy-install.pth").write_text(f"import sys; sys.path.insert(0, {str(tmp_path / 'x.egg')!r})\n")
    return put(tmp_path / "x.egg")


def by_a_hook_before_all_others(executable, own, tmp_path, monkeypatch):
    file = put(tmp_path / "src")
    (own / "_hook.py").write_text(
        "import importlib.util, sys\nclass Hook:\n  @staticmethod\n  def find_spec(name, path=None, target=None):\n"
        f"    return importlib.util.spec_from_file_location(name, {str(file)!r}) if name == 'flash_attn' else None\n"
        "sys.meta_path.insert(0, Hook)\n"
    )
    (own / "hook.pth").write_text("import _hook\n")
    return file


@pytest.mark.parametrize(
    "shadow",
    [in_users_site, on_pythonpath, by_sitecustomize, by_a_line_of_code_in_a_pth_file, by_a_hook_before_all_others],
)
def test_what_python_finds_before_the_folder_of_packages_is_seen(shadow, make_venv, run, tmp_path, monkeypatch):
    """Outside of a venv, as for the user's own packages it has to be: a copy of the interpreter's folder would take long."""
    venv = make_venv(system_site_packages=True)
    executable, own = str(venv / "bin" / "python"), site_packages(venv)
    if shadow is in_users_site:  # which a venv has behind its own
        (own / "order.pth").write_text("import site, sys; sys.path.insert(0, site.getusersitepackages())\n")
    file = shadow(executable, own, tmp_path, monkeypatch)
    put(own)
    assert imported_from(executable).splitlines()[-1] == str(file)
    assert query_interpreter(executable, run, ["flash_attn"]).modules["flash_attn"] == (str(file), True)


def test_a_hook_behind_all_others_and_a_folder_behind_come_after_what_is_installed(make_venv, run, tmp_path):
    venv = make_venv()
    own = site_packages(venv)
    file = put(tmp_path / "src")
    (own / "x.pth").write_text(f"{tmp_path / 'src'}\n")
    assert query_interpreter(str(venv), run, ["flash_attn"]).modules["flash_attn"] == (str(file), False)
    installed = put(own)
    assert query_interpreter(str(venv), run, ["flash_attn"]).modules["flash_attn"] == (str(installed), False)


def test_a_folder_without_a_module_comes_after_every_module(make_venv, run, tmp_path, monkeypatch):
    venv = make_venv()
    (tmp_path / "apps" / "flash_attn").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "apps"))
    found = query_interpreter(str(venv), run, ["flash_attn", "absent"]).modules
    assert found == {"flash_attn": (str(tmp_path / "apps" / "flash_attn"), False)}
    installed = put(site_packages(venv))
    assert query_interpreter(str(venv), run, ["flash_attn"]).modules["flash_attn"] == (str(installed), False)


def test_modules_are_looked_for_and_not_imported(make_venv, run, tmp_path):
    venv = make_venv()
    put(site_packages(venv), "torch").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "torch" in query_interpreter(str(venv), run, ["torch"]).modules
    assert not (tmp_path / "ran").exists()
    imported_from(str(venv / "bin" / "python"), "torch")
    assert (tmp_path / "ran").exists(), "this module would not have told"


def test_what_lies_in_the_working_directory_is_not_seen(make_venv, run, tmp_path):
    put(tmp_path)
    put(tmp_path, "site").write_text("raise SystemExit('taken')\n")
    assert query_interpreter(str(make_venv()), run, ["flash_attn"]).modules == {}


def test_an_interpreter_may_be_a_script_that_starts_it(make_venv, run, tmp_path, monkeypatch):
    user = user_site(sys._base_executable)
    user.mkdir(parents=True)
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec {sys._base_executable} -s "$@"\n')
    script.chmod(0o755)
    found = query_interpreter(str(script), run)
    assert found.program == os.path.realpath(sys._base_executable)
    assert str(user) not in [entry.folder for entry in found.path]


def test_the_c_library_is_that_of_the_interpreter(make_venv, run):
    assert query_interpreter(str(make_venv()), run).libc == os.confstr("CS_GNU_LIBC_VERSION")


def answering(run, **changes):
    """The real answer of a real interpreter, but for some facts of another build of Python."""

    def changed(command):
        status, out, err = run(command)
        before, mark, answer = out.partition(MARK)
        return status, before + mark + repr({**ast.literal_eval(answer), **changes}), err

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


def test_variables_that_keep_an_interpreter_from_starting_are_named(tmp_path, run):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    with pytest.raises(
        TorchExtensionError, match=r"exit status -11.*LD_LIBRARY_PATH=/opt/glibc-2.32/lib, without which"
    ):
        query_interpreter(str(program), run, environ={"LD_LIBRARY_PATH": "/opt/glibc-2.32/lib", "PYTHONHOME": ""})
