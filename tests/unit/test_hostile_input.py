# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others may have made is parsed in one place for each kind, with limits; nothing else does it by itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What reads each kind, and the places that may: the one with the limits, and those that write or read what is their own.
READERS = {
    "archives": (
        {
            *(
                "zipfile.ZipFile",
                "zipfile.PyZipFile",
                "zipfile.is_zipfile",
                "tarfile.open",
                "tarfile.TarFile",
                "tarfile.is_tarfile",
            ),
            *("gzip.open", "gzip.GzipFile", "gzip.decompress", "bz2.open", "bz2.BZ2File", "bz2.decompress"),
            *("bz2.BZ2Decompressor", "lzma.open", "lzma.LZMAFile", "lzma.decompress", "lzma.LZMADecompressor"),
            *("zlib.decompress", "zlib.decompressobj", "shutil.unpack_archive", "zipimport.zipimporter"),
        },
        {
            "plugins/module_utils/_files/archives.py",
            "plugins/module_utils/_pip/dry_run.py",  # writes a wheel of its own
            "plugins/plugin_utils/_export/bundle_files.py",  # writes the tar of a bundle
            "plugins/plugin_utils/_network/bodies.py",  # what servers answer, with limits of its own
        },
    ),
    "YAML": (
        {
            *(
                "yaml.load",
                "yaml.load_all",
                "yaml.safe_load",
                "yaml.safe_load_all",
                "yaml.full_load",
                "yaml.unsafe_load",
            ),
            *("yaml.compose", "yaml.compose_all", "yaml.parse", "yaml.scan", "yaml.SafeLoader", "yaml.CSafeLoader"),
            *("yaml.Loader", "yaml.CLoader", "yaml.FullLoader", "yaml.BaseLoader", "yaml.CBaseLoader"),
        },
        {"plugins/plugin_utils/_lock/yaml_text.py"},
    ),
    "JSON": (
        {"json.load", "json.loads", "json.JSONDecoder"},
        {
            "plugins/module_utils/_files/json_text.py",
            "plugins/plugin_utils/_sources/json_answers.py",  # what servers answer
            "plugins/plugin_utils/_export/bom.py",  # what it has just made itself
            "plugins/module_utils/_build/fronts.py",  # runs by itself, and reads what its own folder has
        },
    ),
    "objects": ({"pickle.load", "pickle.loads", "marshal.load", "marshal.loads", "shelve.open"}, set()),
}
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/**/*.py"))


def names_used(source: str) -> set[str]:
    """The names of modules' functions in a program, as MODULE.FUNCTION, whatever they are imported as."""
    tree = ast.parse(source)
    modules: dict[str, str] = {}
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update({name.asname or name.name: name.name for name in node.names})
        elif isinstance(node, ast.ImportFrom):
            used.update(f"{node.module}.{name.name}" for name in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{modules.get(node.value.id, node.value.id)}.{node.attr}")
        # getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            module, name = (node.args[0], node.args[1])
            if isinstance(module, ast.Name) and isinstance(name, ast.Constant):
                used.add(f"{modules.get(module.id, module.id)}.{name.value}")
    return used


@pytest.mark.parametrize(
    "source",
    [
        "import zipfile as z\nz.ZipFile('a')",
        "from zipfile import ZipFile",
        "def f():\n    import zipfile\n    return zipfile.ZipFile",
        "import zipfile\ngetattr(zipfile, 'ZipFile')('a')",
    ],
)
def test_a_reader_is_found_however_it_is_named(source):
    assert "zipfile.ZipFile" in names_used(source)


@pytest.mark.parametrize("kind", READERS)
def test_what_others_may_have_made_is_read_in_one_place(kind):
    readers, places = READERS[kind]
    found = {file: sorted(readers & names_used((ROOT / file).read_text())) for file in FILES}
    assert {file: names for file, names in found.items() if names and file not in places} == {}
    assert {file for file in places if not found.get(file)} == set(), "these need not be excepted any longer"


def test_no_playbook_parses_a_file_by_itself():
    """The filters of Ansible follow aliases, and take the last of two equal keys."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("playbooks", "roles")
        for path in sorted(ROOT.glob(f"{folder}/**/*.yml"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "from_yaml" in line or "include_vars" in line or ("ansible.builtin.file'" in line and "lookup" in line)
    ]
    assert found == []
