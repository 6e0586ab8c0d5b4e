# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import job, own_sources


def test_the_job_and_all_that_it_imports_run_from_a_folder_of_their_own(tmp_path):
    """Also where a Python has the package ansible, which brings other collections."""
    others = tmp_path / "site-packages" / "ansible_collections"
    others.mkdir(parents=True)
    (others / "__init__.py").touch()
    own_sources.write_sources(job.__name__, str(tmp_path / "lib"))
    folders = [str(tmp_path / "lib"), str(others.parent)]
    code = f"import sys; sys.path[:0] = {folders!r}; from {job.__name__} import main; print(main.__code__.co_filename)"
    found = subprocess.run([sys.executable, "-IS", "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(tmp_path / "lib"))


def test_nothing_of_ansible_goes_with_it():
    collected = own_sources.collect_sources(job.__name__)
    assert job.__name__ in collected
    assert not [name for name, text in collected.items() if "import ansible." in text or "from ansible." in text]


def test_texts_are_found_in_an_archive(tmp_path):
    """As Ansible brings modules: in a zip file, without the collection anywhere else."""
    own_sources.write_sources(job.__name__, str(tmp_path / "lib"))
    pack = "import shutil, sys; shutil.make_archive(sys.argv[1], 'zip', sys.argv[2])"
    subprocess.run([sys.executable, "-c", pack, tmp_path / "module", tmp_path / "lib"], check=True)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'module.zip')!r})\n"
        f"from {own_sources.__name__.rpartition('.')[0]} import job, own_sources\n"
        f"own_sources.write_sources(job.__name__, {str(tmp_path / 'again')!r})"
    )
    subprocess.run([sys.executable, "-IS", "-c", code], check=True)
    files = [
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py"))
        for folder in (tmp_path / "lib", tmp_path / "again")
    ]
    assert files[0] == files[1]
    assert Path(tmp_path, "again", *job.__name__.split(".")).with_suffix(".py").exists()
