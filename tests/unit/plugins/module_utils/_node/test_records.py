# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import find_installed
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.records import missing_files


def test_of_a_broken_off_installation_files_are_missing(tmp_path):
    rows = ["a/__init__.py,,", '"a/b,c.py",,', "a-1.dist-info/direct_url.json,,", "a-1.dist-info/RECORD,,"]
    folder = tmp_path / "a-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").touch()
    (folder / "RECORD").write_text("\n".join(rows))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__init__.py").touch()
    assert missing_files(find_installed([tmp_path])["a"]) == ["a/b,c.py"]
    (tmp_path / "a" / "b,c.py").touch()
    assert missing_files(find_installed([tmp_path])["a"]) == []


def test_without_a_record_the_record_is_missing(tmp_path):
    (tmp_path / "a-1.dist-info").mkdir()
    (tmp_path / "a-1.dist-info" / "METADATA").touch()
    assert missing_files(find_installed([tmp_path])["a"]) == ["a-1.dist-info/RECORD"]
