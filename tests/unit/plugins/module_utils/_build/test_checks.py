# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refusals before anything starts; each has the fact seen, the one wanted, and its knob."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from builds import extension_files, install_cuda, make_sdist
from other_users import needs_root
from venvs import site_packages
from wheels import build_wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import checks, machine
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.builder import look_at
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import JobFolder, resolve_folder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

TORCH = "__version__ = '2.14.1+cu{}'\ncuda: Optional[str] = {!r}\nhip: Optional[str] = None\n"


@pytest.fixture
def job(builds, tmp_path):
    return builds.make_job(make_sdist(tmp_path, extension_files(parts=0)))


@pytest.fixture
def refuse(builds):
    """The words with which a start is refused, after which nothing runs and nothing is there."""

    def refuse(job):
        with pytest.raises(TorchExtensionError) as refused:
            builds.start(job)
        assert builds.poll()["state"] == "absent"
        assert builds.processes() == {}
        return str(refused.value)

    return refuse


@pytest.fixture
def torch_for(make_venv, make_torch, builds):
    """Has the builds use an environment with a torch for a CUDA version."""

    def put(cuda):
        venv = make_venv()
        make_torch(site_packages(venv), version=TORCH.format((cuda or "0").replace(".", ""), cuda))
        builds.python = str(venv)
        return {"python": str(venv), "archs": ["9.0"]}

    return put


def test_too_little_memory(job, refuse):
    available = machine.available_memory_mib()
    message = refuse({**job, "memory_per_job_mib": 10**9})
    assert message.endswith("wants 1000000000 MiB. Free some, or choose another builder (torch_extension_builder).")
    assert abs(int(message.split("This node has ")[1].split(" MiB of memory free")[0]) - available) < 4000


def test_too_little_disk(job, refuse, builds):
    message = refuse({**job, "disk_mib": 10**9})
    assert f"{builds.folder} on this node has " in message
    assert "a build of small-extension 1.2 wants 1000000000 MiB" in message
    assert "torch_extension_build_dir" in message


def test_what_a_build_has_written_already_counts_as_room(job, builds):
    folder = builds.job_folder()
    Path(folder.path).mkdir(parents=True)
    Path(folder.path, "objects").write_bytes(b"x" * (100 << 20))
    room = machine.free_mib(folder.path)
    checks.check_disk({**job, "disk_mib": room + 50}, folder)
    with pytest.raises(TorchExtensionError):
        checks.check_disk({**job, "disk_mib": room + 5000}, folder)


@needs_root
def test_a_file_system_from_which_nothing_runs(job, tmp_path):
    """In a namespace of its own, whose mounts nobody else sees."""
    folder = tmp_path / "noexec"
    folder.mkdir()
    code = f"""
import sys
sys.path[:] = {sys.path!r}
from {checks.__name__.rpartition(".")[0]} import checks, job_folder
checks.check_disk({job!r}, job_folder.JobFolder({str(folder)!r}, "job"))
"""
    script = f"mount -t tmpfs -o noexec none {folder} && {shlex.join([sys.executable, '-c', code])}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert f"{folder} on this node is mounted noexec, and a build runs programs from there." in done.stderr
    assert "Set torch_extension_build_dir" in done.stderr
    assert not machine.is_noexec(str(folder))


@pytest.mark.parametrize("name", ["with space", "a,b", "it's", "$HOME", "a:b"])
def test_a_folder_that_compilers_cannot_take(name, tmp_path):
    with pytest.raises(TorchExtensionError, match="with which neither torch nor nvcc can work"):
        resolve_folder(str(tmp_path / name))


@pytest.mark.parametrize("job_id", ["", "..", "../x", "/x", "files", ".hidden", "a b", "x" * 200])
def test_an_id_is_a_name_of_a_folder(job_id, tmp_path):
    with pytest.raises(TorchExtensionError, match="wanted is a name"):
        JobFolder(str(tmp_path), job_id)


def test_no_compiler(job, refuse, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    message = refuse(job)
    assert f"There is no C++ compiler on this node: no g++, c++ or clang++ in {tmp_path}/empty." in message
    assert "Install g++, name an environment module that brings one (torch_extension_build_module)" in message


@pytest.mark.parametrize(
    ("version", "standard", "words"),
    [
        ("8.5.0", "c++20", "c++20 wants g++ 10"),
        ("7.5.0", None, "a build wants g++ 8"),
        ("7.5.0", "c++17", "a build wants g++ 8"),
    ],
)
def test_a_compiler_that_is_too_old(version, standard, words, job, refuse, tmp_path, monkeypatch):
    put_compiler(tmp_path / "bin", version, monkeypatch)
    message = refuse({**job, "cxx_standard": standard})
    assert message.startswith(f"{tmp_path}/bin/g++ on this node is version {version}, {words} or newer. Install such")


def put_compiler(folder, version, monkeypatch, name="g++"):
    """A compiler that says its version, the only one on the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {version}\n")
    (folder / name).chmod(0o755)
    for needed in ("sh", "cat"):
        if not (folder / needed).exists():
            (folder / needed).symlink_to(f"/bin/{needed}")
    monkeypatch.setenv("PATH", str(folder))


def test_a_compiler_that_nvcc_does_not_take(job, refuse, torch_for, tmp_path, monkeypatch):
    home = install_cuda(tmp_path / "cuda", max_gcc=14)
    put_compiler(tmp_path / "bin", "15.2.0", monkeypatch)
    message = refuse({**job, **torch_for("12.8"), "toolchain": {"home": str(home)}})
    assert message.startswith(
        f"{tmp_path}/bin/g++ on this node is version 15.2.0, nvcc 12.8 takes g++ up to 14. Install"
    )


def test_one_beside_it_that_nvcc_takes_is_taken(job, builds, torch_for, tmp_path, monkeypatch):
    home = install_cuda(tmp_path / "cuda", max_gcc=14)
    put_compiler(tmp_path / "bin", "15.2.0", monkeypatch)
    put_compiler(tmp_path / "bin", "13.1.0", monkeypatch, "g++-13")
    job = {**job, **torch_for("12.8"), "toolchain": {"home": str(home)}}
    tools = checks.check_tools(job, builds.job_folder(), look_at(job["python"], "", os.environ))
    assert tools.pair.cxx == (f"{tmp_path}/bin/g++-13", "13.1.0")


def test_an_nvcc_for_another_cuda_than_torch(job, refuse, torch_for, tmp_path):
    home = install_cuda(tmp_path / "cuda", version="12.8")
    message = refuse({**job, **torch_for("13.0"), "toolchain": {"home": str(home)}})
    assert f"nvcc in {home} is for CUDA 12.8, torch for CUDA 13.0: their first numbers must be the same." in message
    assert "torch_extension_build_module" in message


def test_a_torch_without_cuda(job, refuse, torch_for, tmp_path):
    home = install_cuda(tmp_path / "cuda")
    message = refuse({**job, **torch_for(None), "toolchain": {"home": str(home)}})
    assert "torch on this node is not built for CUDA" in message


def test_a_found_nvcc_that_has_gone(job, refuse, torch_for, tmp_path):
    message = refuse({**job, **torch_for("13.0"), "toolchain": {"home": str(tmp_path / "gone")}})
    assert f"There is no nvcc that runs in {tmp_path}/gone/bin" in message


@pytest.mark.parametrize("kind", ["wheels", "archives"])
def test_a_compiler_that_is_brought_is_looked_at_before_it_is_unpacked(
    kind, job, refuse, builds, torch_for, tmp_path, monkeypatch
):
    header = "#if __GNUC__ > 9\n"
    if kind == "wheels":
        files = [
            build_wheel(tmp_path, "nvidia-cuda-nvcc", "13.0.88"),
            build_wheel(
                tmp_path, "nvidia-cuda-crt", "13.0.88", files={"nvidia/cu13/include/crt/host_config.h": header}
            ),
        ]
    else:
        stem = "cuda_nvcc-linux-x86_64-13.0.88-archive"
        (tmp_path / f"{stem}/include/crt").mkdir(parents=True)
        (tmp_path / f"{stem}/include/crt/host_config.h").write_text(header)
        files = [tmp_path / f"{stem}.tar.xz"]
        with tarfile.open(files[0], "w:xz") as archive:
            archive.add(tmp_path / stem, stem)
    put_compiler(tmp_path / "bin", "12.2.0", monkeypatch)
    message = refuse({**job, **torch_for("13.0"), "toolchain": {kind: [builds.bring(path) for path in files]}})
    assert "is version 12.2.0, nvcc 13.0 takes g++ up to 9" in message


def test_a_torch_that_is_brought_counts_instead_of_that_of_the_environment(job, refuse, builds, torch_for, tmp_path):
    home = install_cuda(tmp_path / "cuda", version="12.8")
    torch = build_wheel(tmp_path, "torch", "2.14.1", files={"torch/version.py": TORCH.format("130", "13.0")})
    message = refuse({**job, **torch_for("12.8"), "torch": [builds.bring(torch)], "toolchain": {"home": str(home)}})
    assert "torch for CUDA 13.0: their first numbers" in message


def test_files_of_nvidias_compiler_without_nvcc(job, refuse, builds, torch_for, tmp_path):
    wheel = build_wheel(tmp_path, "nvidia-cuda-cccl", "13.0.85")
    message = refuse({**job, **torch_for("13.0"), "toolchain": {"wheels": [builds.bring(wheel)]}})
    assert "has no cuda_nvcc among its files" in message
    assert "torch_extension_build_cuda" in message


def test_a_python_without_headers(job, builds):
    builder = look_at(sys.executable, "", os.environ)._replace(has_python_headers=False, python_headers=["/nowhere"])
    with pytest.raises(TorchExtensionError) as refused:
        checks.check_tools(job, builds.job_folder(), builder)
    assert "there is no Python.h in /nowhere" in str(refused.value)
    assert "torch_extension_build_python" in str(refused.value)


def test_a_file_that_was_not_brought_or_is_another(job, refuse, builds):
    path = Path(builds.job_folder().delivered(job["sdist"]))
    path.write_bytes(b"another")
    assert "it is another file or it is damaged" in refuse(job)
    path.unlink()
    assert "cannot be read: No such file or directory" in refuse(job)


@pytest.mark.parametrize("file", [{"filename": "../x", "sha256": "0" * 64}, {"filename": "x", "sha256": "../0"}])
def test_a_path_is_no_name_of_a_file(file, job, refuse):
    assert "wanted are a name without a folder and 64 hexadecimal digits" in refuse({**job, "sdist": file})
