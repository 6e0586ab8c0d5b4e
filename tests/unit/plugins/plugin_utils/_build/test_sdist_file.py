# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import calendar
import gzip
import io
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

import ansible_collections

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build import sdist_file

TIME = 1_700_000_000
PYPROJECT = '[build-system]\nrequires = ["setuptools>=61", "torch"]\n'
PKG_INFO = "Metadata-Version: 2.1\nName: our-kernels\nVersion: 0.1.0\nRequires-Python: >=3.9\n\nVersion: 9\n"


@pytest.fixture
def write(tmp_path):
    """Writes an archive of these files: path → text, or a TarInfo for a tar archive."""

    def write(files, name="our_kernels-0.1.0.tar.gz", mtime=TIME, **options):
        path = tmp_path / name
        if name.endswith(".zip"):
            with zipfile.ZipFile(path, "w") as archive:
                for file, text in files.items():
                    archive.writestr(zipfile.ZipInfo(file, (2023, 11, 14, 22, 13, 20)), text)
            return str(path)
        with tarfile.open(path, "w:gz", **options) as archive:
            for file, text in files.items():
                info = tarfile.TarInfo(file)
                info.mtime, info.size = mtime, len(text)
                if file.endswith("/"):
                    info.type = tarfile.DIRTYPE
                archive.addfile(info, io.BytesIO(text.encode()))
        return str(path)

    return write


def read(path):
    return sdist_file.read_sdist(path)


@pytest.mark.parametrize("name", ["our_kernels-0.1.0.tar.gz", "our_kernels-0.1.0.zip"])
def test_an_sdist_tells_what_it_takes_to_build_it(name, write):
    facts = read(write({"k/PKG-INFO": PKG_INFO, "k/pyproject.toml": PYPROJECT, "k/csrc/a/b.cu": "", "k/x.egg-info/PKG-INFO": "Version: 8"}, name))
    assert facts.build_requires == ("setuptools>=61", "torch")
    assert (facts.version, facts.requires_python, facts.newest_mtime) == ("0.1.0", ">=3.9", TIME)
    assert facts.has("csrc/a/b.cu")
    assert facts.has("csrc")
    assert facts.missing(["csrc/a", "csrc/cutlass", "k"]) == ("csrc/cutlass", "k")


@pytest.mark.parametrize("pyproject", [None, "[project]\nname = 'k'\n"])
def test_what_says_nothing_of_its_build_is_built_by_setuptools(pyproject, write):
    files = {"k/setup.py": "", **({"k/pyproject.toml": pyproject} if pyproject else {})}
    facts = read(write(files))
    assert (facts.build_requires, facts.version, facts.requires_python) == (("setuptools", "wheel"), None, None)


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
def test_the_archive_of_a_tag_lacks_its_submodules(suffix, tmp_path):
    repository, library = tmp_path / "repository", tmp_path / "library"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example", "-c", "protocol.file.allow=always"]
    for folder, file in ((library, "cutlass.h"), (repository, "setup.py")):
        folder.mkdir()
        (folder / file).touch()
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "1", "--date=2023-11-14T22:13:20Z"]):
            subprocess.run([*git, *command], cwd=folder, check=True, capture_output=True)
    for command in (["submodule", "--quiet", "add", str(library), "csrc/cutlass"], ["commit", "-qm", "2"]):
        subprocess.run([*git, *command], cwd=repository, check=True, capture_output=True)
    path = tmp_path / f"flash-attention-2.8.3.{suffix}"
    archive = ["archive", "--prefix=flash-attention-2.8.3/", f"--output={path}", "HEAD"]
    subprocess.run([*git, *archive], cwd=repository, check=True)
    facts = read(str(path))
    assert facts.has("setup.py")
    assert facts.missing(["csrc/cutlass"]) == ("csrc/cutlass",)
    assert facts.newest_mtime > TIME


@pytest.mark.parametrize("mtime", [0, 0.5, -5, 1 << 33, 2**60])
def test_the_newest_time_is_one_that_a_wheel_can_have(mtime, write):
    newest = read(write({"k/setup.py": ""}, mtime=mtime)).newest_mtime
    assert calendar.timegm((1980, 1, 1, 0, 0, 0)) <= newest < calendar.timegm((2108, 1, 1, 0, 0, 0))
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a", time.gmtime(newest)[:6]), "")


def test_the_newest_time_is_that_of_a_file(write, tmp_path):
    path = write({"k/setup.py": ""})
    with gzip.open(path, "rb") as file:
        content = file.read()
    with tarfile.open(path, "w:gz") as archive, tarfile.open(fileobj=io.BytesIO(content)) as old:
        folder = tarfile.TarInfo("k")
        folder.type, folder.mtime = tarfile.DIRTYPE, TIME + 1000
        archive.addfile(folder)
        for member in old:
            archive.addfile(member, old.extractfile(member))
    assert read(path).newest_mtime == TIME


def sparse_bomb():
    """A header that is followed by more and more of its own table."""
    info = tarfile.TarInfo("k/setup.py")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # the table goes on in the next block
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    block = (b"%011o\0%011o\0" % (1, 1)) * 21 + b"\1" + b"\0" * 7
    return bytes(header) + block * (1 << 18)


def long_name(size):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    return info.tobuf(tarfile.GNU_FORMAT)


HOSTILE_TARS = {
    "no archive": b"<html>",
    "empty": b"",
    "zeros": b"\0" * (1 << 20),
    "a table without an end": sparse_bomb(),
    "a name of gigabytes": long_name(6 << 30) + b"a" * (1 << 20),
    "a name of megabytes": long_name(60 << 20) + b"a" * (60 << 20),
    "names of names": long_name(512) * 3000 ,
}


@pytest.mark.slow  # one of them takes seconds until its limit is reached
@pytest.mark.parametrize("content", HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_a_hostile_archive_ends_in_one_message_and_takes_little_memory(content, tmp_path):
    path = tmp_path / "our_kernels-0.1.0.tar.gz"
    path.write_bytes(gzip.compress(content, 1))
    command = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))\n"
        f"from {sdist_file.__name__} import TorchExtensionError, read_sdist\n"
        "try: read_sdist(sys.argv[1])\n"
        "except TorchExtensionError as exc: print(exc)\n"
    )
    roots = os.pathsep.join(str(Path(folder).parent) for folder in ansible_collections.__path__)
    result = subprocess.run(
        [sys.executable, "-c", command, str(path)],
        env={**os.environ, "PYTHONPATH": roots},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.stdout.startswith("our_kernels-0.1.0.tar.gz cannot be read as an sdist: ")
    assert (result.stdout.count("\n"), result.stderr) == (1, "")


@pytest.mark.slow
@pytest.mark.parametrize("content", [sparse_bomb(), long_name(60 << 20) + b"a" * (60 << 20)])
def test_headers_are_bounded(content, tmp_path):
    path = tmp_path / "our_kernels-0.1.0.tar.gz"
    path.write_bytes(gzip.compress(content, 1))
    with pytest.raises(TorchExtensionError, match="its headers are larger"):
        read(str(path))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"setup.py": ""}, "not all in one folder"),
        ({"k/setup.py": "", "l/setup.py": ""}, "not all in one folder"),
        ({}, "not all in one folder|empty"),
        ({"k/../../setup.py": ""}, "leads out of the folder"),
        ({"/k/setup.py": ""}, "leads out of the folder"),
        ({"k/pyproject.toml": "build-system = 1"}, "no list of requirements"),
        ({"k/pyproject.toml": "[build-system]\nrequires = 'torch'"}, "no list of requirements"),
        ({"k/pyproject.toml": "[build-system]\nrequires = [1]"}, "no list of requirements"),
        ({"k/pyproject.toml": "[["}, "Invalid initial character"),
        ({"k/pyproject.toml": "a = " + "[" * 20_000}, "recursion"),
        ({"k/pyproject.toml": "#" * (2 << 20)}, "has 2097152 bytes, wanted are no more than 1048576"),
    ],
)
@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
def test_what_is_no_sound_sdist_is_refused(suffix, files, reason, write):
    with pytest.raises(TorchExtensionError, match=reason) as failure:
        read(write(files, f"our_kernels-0.1.0.{suffix}"))
    assert "torch_extension_sources" in str(failure.value)


def test_a_link_in_the_place_of_pyproject_is_not_followed(write, tmp_path):
    path = write({"k/setup.py": ""})
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("k/pyproject.toml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(TorchExtensionError, match="no regular file"):
        read(path)


def test_a_damaged_archive_is_refused(write):
    for suffix in ("tar.gz", "zip"):
        path = write({"k/setup.py": "a" * 5000, "k/PKG-INFO": PKG_INFO * 50}, f"our_kernels-0.1.0.{suffix}")
        content = open(path, "rb").read()
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        with pytest.raises(TorchExtensionError, match="cannot be read as an sdist"):
            read(path)
