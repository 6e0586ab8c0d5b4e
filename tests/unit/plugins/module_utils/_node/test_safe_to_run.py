# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Root is asked to run real interpreters, each of which would leave a mark."""

from __future__ import annotations

import os
import re
import stat
import sys

import pytest
from other_users import OWNER, STRANGER, as_user, give, needs_root
from venvs import make_plain_venv, site_packages

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import query_interpreter
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.safe_to_run import check_may_import

pytestmark = needs_root
GROUP = 12399  # of which this machine knows nothing
STDLIB = os.path.dirname(os.__file__)


@pytest.fixture
def venv(open_folder):
    """An environment of root, whose interpreter leaves a mark whenever it is run, by whatever way it starts."""
    made = make_plain_venv(open_folder / "above" / "venv")
    made.parent.chmod(0o755)
    mark = open_folder / "ran"
    (site_packages(made) / "mark.pth").write_text(
        f"import os; open({str(mark)!r}, 'a').close(); os.chmod({str(mark)!r}, 0o666)\n"
    )
    return made


@pytest.fixture
def has_run(open_folder):
    return (open_folder / "ran").exists


def query(venv, run, *trusted, environ=None):
    return query_interpreter(str(venv), run, (), environ, trusted)


def test_root_runs_what_is_roots_alone(venv, run, has_run):
    assert query(venv, run).prefix == str(venv)
    assert has_run()


@pytest.mark.parametrize(
    "whose",
    [
        "..",
        ".",
        "bin",
        "bin/python",
        "pyvenv.cfg",
        "lib",
        "{packages}",
        "{packages}/mark.pth",
        "{packages}/torch",
        "{packages}/../extra",
    ],
)
def test_root_does_not_run_what_another_user_owns_any_of(whose, venv, run, has_run):
    packages = site_packages(venv)
    (packages / "torch").mkdir()
    (packages.parent / "extra").mkdir()
    place = whose.format(packages=packages)
    os.chown(venv / place, OWNER, OWNER, follow_symlinks=False)
    path = os.path.normpath(venv / place)
    executable = re.escape(f"{venv}/bin/python")
    with pytest.raises(
        TorchExtensionError,
        match=rf"^{path} belongs to {OWNER} \(mode 0?\d+\), and root runs nothing .* of {executable} nothing was run, and nothing was"
        rf" changed\. Set become: true and become_user: {OWNER}\. Or add {OWNER} to torch_extension_trusted_owners",
    ):
        query(venv, run)
    assert not has_run()
    with pytest.raises(TorchExtensionError):
        query(venv, run, str(STRANGER))
    query(venv, run, str(OWNER))
    assert has_run()


@pytest.mark.parametrize("place", ["bin", "lib", "{packages}", "{packages}/torch"])
def test_root_does_not_run_what_a_group_or_everybody_may_write_to(place, venv, run, has_run):
    path = venv / place.format(packages=site_packages(venv))
    path.mkdir(exist_ok=True)
    os.chown(path, 0, GROUP)
    path.chmod(0o2775)
    with pytest.raises(
        TorchExtensionError,
        match=rf"group {GROUP} may write to {path} .*chmod g-w {path}\)\. Or add %{GROUP} to torch_extension_trusted_owners",
    ):
        query(venv, run)
    path.chmod(0o1777)
    with pytest.raises(
        TorchExtensionError, match=rf"everybody may write to {path} \(owner root, mode 1777\).*chmod o-w"
    ):
        query(venv, run, f"%{GROUP}")
    assert not has_run()
    path.chmod(0o2775)
    query(venv, run, f"%{GROUP}")


def test_a_package_that_is_a_link_counts_by_where_it_leads(venv, run, open_folder, has_run):
    (open_folder / "theirs").mkdir()
    give(open_folder / "theirs", OWNER)
    (site_packages(venv) / "torch").symlink_to(open_folder / "theirs")
    with pytest.raises(TorchExtensionError, match=f"{open_folder}/theirs belongs to {OWNER}"):
        query(venv, run)
    assert not has_run()


@pytest.mark.parametrize("variable", ["PYTHONPATH", "PYTHONUSERBASE", "HOME"])
def test_what_variables_have_python_read_counts_too(variable, run, open_folder, has_run):
    theirs = open_folder / "theirs"
    version = "python{}.{}".format(*sys.version_info)
    folder = theirs / ".local" / "lib" / version / "site-packages"
    folder.mkdir(parents=True)
    give(theirs, OWNER)
    value = {"PYTHONPATH": folder, "PYTHONUSERBASE": theirs / ".local", "HOME": theirs}[variable]
    made = make_plain_venv(open_folder / "venv", True)
    with pytest.raises(TorchExtensionError, match=f"{theirs}.* belongs to {OWNER}"):
        query(made, run, environ={"HOME": "/root", variable: str(value)})
    if variable != "PYTHONPATH":
        (made / "pyvenv.cfg").write_text(
            (made / "pyvenv.cfg").read_text().replace("packages = true", "packages = false")
        )
        query(made, run, environ={"HOME": "/root", variable: str(value)})


def test_the_python_that_an_environment_is_made_of_counts_too(run, open_folder, has_run):
    base, venv = open_folder / "base", open_folder / "venv"
    (base / "bin").mkdir(parents=True)
    (base / "bin/python3").symlink_to(sys.executable)
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(sys.executable)
    (venv / "pyvenv.cfg").write_text(f"home = {base}/bin\n")
    library = base / "lib/python3.11"
    library.mkdir(parents=True)
    os.chown(library, OWNER, OWNER)
    with pytest.raises(TorchExtensionError, match=f"{library} belongs to {OWNER}"):
        query(venv, run)


def test_a_folder_that_only_the_interpreter_names_is_looked_at_before_anything_is_imported(venv, run, open_folder):
    (open_folder / "theirs").mkdir()
    give(open_folder / "theirs", OWNER)
    (site_packages(venv) / "more.pth").write_text(f"{open_folder}/theirs\n")
    with pytest.raises(TorchExtensionError, match=f"{open_folder}/theirs belongs to {OWNER}"):
        query(venv, run)


def test_another_user_than_root_runs_what_others_own(venv, run, has_run, open_folder):
    program = venv / "bin" / "python"
    program.unlink()
    program.write_text(f'#!/bin/sh\necho >{open_folder}/ran\nexec /usr/bin/python3 "$@"\n')
    program.chmod(0o755)
    give(venv.parent, OWNER)
    open_folder.chmod(0o777)
    with as_user(STRANGER):
        check_may_import([str(venv)], "python", ())
        assert query(venv, lambda command: run(command, "/")).executable == str(program)
    assert has_run()


def test_pythons_of_the_system_may_be_run(run):
    assert query("/usr/bin/python3", run, environ={"HOME": "/root"}).version
    assert not os.stat("/usr/bin/python3").st_mode & stat.S_IWOTH
