# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile

import pytest
from wheels import tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import unpacking
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives


def member(name, kind=tarfile.REGTYPE, data=b"x", target="", size=None, mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, target, mode, 1600000000
    info.size = (len(data) if kind == tarfile.REGTYPE else 0) if size is None else size
    return info, data if kind == tarfile.REGTYPE else b""


@pytest.fixture
def tar(tmp_path):
    """Makes an archive of members, honest or not."""

    def make(*members, name="a.tar.gz", mode="w:gz"):
        path = tmp_path / name
        with tarfile.open(path, mode) as archive:
            for info, data in members:
                archive.addfile(info, io.BytesIO(data))
        return str(path)

    return make


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "inner" / "target"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tar.xz", "w:xz")])
def test_files_folders_links_modes_and_times_are_unpacked(name, mode, tar, target):
    unpacking.unpack(
        tar(
            member("p-1", tarfile.DIRTYPE),
            member("p-1/run.sh", data=b"run", mode=0o750),
            member("p-1/deep/down/a.cu", data=b"a"),
            member("p-1/deep/link", tarfile.SYMTYPE, target="../run.sh"),
            member("p-1/hard", tarfile.LNKTYPE, target="p-1/run.sh"),
            name=name,
            mode=mode,
        ),
        str(target),
    )
    top = target / "p-1"
    assert unpacking.only_folder(str(target)) == str(top)
    assert (top / "deep/down/a.cu").read_bytes() == b"a"
    assert (top / "deep/link").read_bytes() == (top / "hard").read_bytes() == b"run"
    assert [stat.S_IMODE((top / name).stat().st_mode) for name in ("run.sh", "deep/down/a.cu")] == [0o755, 0o644]
    assert (top / "run.sh").stat().st_mtime == 1600000000


def test_a_zip_of_a_repository_is_unpacked(tmp_path, target):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p-1/", "")
        archive.writestr("p-1/setup.py", "x")
        link = zipfile.ZipInfo("p-1/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "setup.py")
    unpacking.unpack(str(path), str(target))
    assert (target / "p-1/link").read_text() == "x"
    assert (target / "p-1/link").is_symlink()


HOSTILE = {
    "a name that leads up": ([member("p/../../evil")], "leads out of the folder"),
    "an absolute name": ([member("/tmp/evil")], "leads out of the folder"),
    "a link to elsewhere": ([member("p/link", tarfile.SYMTYPE, target="/etc")], "leads to /etc, out of the folder"),
    "a link that leads up": ([member("p/link", tarfile.SYMTYPE, target="../../..")], "out of the folder"),
    "a file through a link": (
        [member("p/link", tarfile.SYMTYPE, target="../.."), member("p/link/evil")],
        "p/link is a folder and something else",
    ),
    "a link over a link": (
        [
            member("p/q/up", tarfile.SYMTYPE, target=".."),
            member("p/out", tarfile.SYMTYPE, target="q/up/../../.."),
        ],
        "out of the folder",
    ),
    "a hard link to elsewhere": (
        [member("p/hard", tarfile.LNKTYPE, target="/etc/passwd")],
        "p/hard is a hard link to what is no file",
    ),
    "a hard link to a link": (
        [member("p/link", tarfile.SYMTYPE, target="x"), member("p/hard", tarfile.LNKTYPE, target="p/link")],
        "p/hard is a hard link to what is no file",
    ),
    "a pipe": ([member("p/pipe", tarfile.FIFOTYPE)], "p/pipe is a pipe"),
    "a device": ([member("p/device", tarfile.CHRTYPE)], "p/device is a device"),
    "a file that is a folder": ([member("p/a"), member("p/a/b")], "is a folder and something else"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_leads_out_of_the_folder_is_refused(case, tar, target, tmp_path):
    members, words = HOSTILE[case]
    archive = tar(*members)
    outside = {path: state for path, state in tree_state(tmp_path).items() if not path.startswith(str(target))}
    with pytest.raises(TorchExtensionError) as refused:
        unpacking.unpack(archive, str(target))
    assert words in str(refused.value)
    assert {path: state for path, state in tree_state(tmp_path).items() if not path.startswith(str(target))} == outside
    assert not os.path.exists("/tmp/evil")  # noqa: S108


@pytest.mark.parametrize("name", ["../evil", "p\\..\\..\\evil", "/evil"])
def test_a_zip_may_not_lead_out_either(name, tmp_path, target):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(TorchExtensionError, match="leads out of the folder"):
        unpacking.unpack(str(path), str(target))
    assert [entry.name for entry in target.parent.iterdir()] == ["target"]


def test_an_archive_that_would_fill_the_disk_is_refused_before_it_does(tmp_path, target):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info, _data = member("p/huge", size=archives.COMPILER.total + 1)
        archive.fileobj.write(info.tobuf())
    with pytest.raises(TorchExtensionError, match=r"its files have 21474836481 bytes, wanted are no more than 21474836480\. Take"):
        unpacking.unpack(str(path), str(target))
    assert list(target.rglob("*")) == []


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.xz", ".zip", ".whl"])
def test_one_that_is_cut_off_is_refused(suffix, tar, target, tmp_path):
    if suffix in (".zip", ".whl"):
        path = tmp_path / f"a{suffix}"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("p/a", os.urandom(50000))
    else:
        path = tmp_path / f"a{suffix}"
        tar(member("p/a", data=os.urandom(50000)), name=path.name, mode=f"w:{suffix[-2:]}")
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(TorchExtensionError, match=rf"a{suffix} cannot be unpacked: .+\."):
        unpacking.unpack(str(path), str(target))


def test_what_is_no_archive_is_refused(tmp_path, target):
    path = tmp_path / "a.tar.gz"
    path.write_text("<html>")
    with pytest.raises(TorchExtensionError, match=r"a\.tar\.gz cannot be unpacked"):
        unpacking.unpack(str(path), str(target))
