# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess

from wheels import build_wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import find_installed
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.records import changed_files, missing_files


def test_of_a_broken_off_installation_files_are_missing(tmp_path):
    rows = ["a/__init__.py,,", '"a/b,c.py",,', "a-1.dist-info/direct_url.json,,", "a-1.dist-info/RECORD,,"]
    folder = tmp_path / "a-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").touch()
    (folder / "RECORD").write_text("\n".join(rows))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__init__.py").touch()
    assert missing_files(find_installed([str(tmp_path)])["a"]) == ["a/b,c.py"]
    (tmp_path / "a" / "b,c.py").touch()
    assert missing_files(find_installed([str(tmp_path)])["a"]) == []


def test_without_a_record_the_record_is_missing(tmp_path):
    (tmp_path / "a-1.dist-info").mkdir()
    (tmp_path / "a-1.dist-info" / "METADATA").touch()
    assert missing_files(find_installed([str(tmp_path)])["a"]) == ["a-1.dist-info/RECORD"]


def test_files_that_differ_from_the_record_of_pip_are_changed(venv, packages, tmp_path):
    wheel = build_wheel(
        tmp_path, files={"a/__init__.py": "V = 1\n", "a/ops.py": "V = 2\n", "a/more.py": "V = 3\n"}, name="a"
    )
    command = [venv / "bin" / "python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel]
    subprocess.check_call(command)
    distribution = find_installed([str(packages)])["a"]
    assert changed_files(distribution) == []
    (packages / "a" / "__init__.py").write_text("V = 9\n")  # as long as before
    (packages / "a" / "ops.py").write_text("V = 22\n")
    (packages / "a" / "more.py").unlink()  # which is missing, not changed
    assert changed_files(distribution) == ["a/__init__.py", "a/ops.py"]
