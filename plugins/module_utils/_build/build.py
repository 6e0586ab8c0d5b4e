# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Build a wheel in its folder, and go on where an earlier run has ended."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import (
    checks,
    compilers,
    machine,
    processes,
    scratch_venv,
    toolkit,
    unpacking,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.builder import Builder, look_at
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.front_files import write_fronts
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import JobFolder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.logged_commands import LoggedCommands
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of


def build(
    job: t.Mapping[str, t.Any],
    folder: JobFolder,
    commands: LoggedCommands,
    environ: t.Mapping[str, str],
    tell: t.Callable[..., object],
) -> dict[str, t.Any]:
    """Build a wheel.

    :param environ: of this process
    :param tell: gets what is being done, and ``compilers`` when they are known
    :returns: the wheel: filename, path, sha256 and size
    :raises TorchExtensionError: if it does not work
    """
    tell("looks at the machine")
    checks.check_disk(job, folder)
    checks.check_memory(job)
    builder = look_at(job["python"], job["module"], environ, job.get("trusted_owners", ()))
    tools = checks.check_tools(job, folder, builder)
    tell("unpacks the sources", compilers={"cxx": tools.pair.cxx.version, "nvcc": tools.nvcc and tools.nvcc.build})
    source = _unpack_sources(job, folder)
    own_environ = make_environ(job, folder, builder)
    tell("makes the environment")
    _once(
        folder.venv, lambda: scratch_venv.make_venv(job, folder, builder.interpreter, own_environ, commands)
    )
    packages = scratch_venv.package_folders(job, folder, builder.interpreter)
    cuda = None
    if tools.nvcc:
        cuda = tools.nvcc.home or _unpack_cuda(job, folder, tell)
        own_environ.update(_make_toolkit(job, folder, cuda, packages, own_environ))
    is_repeatable = bool(cuda) and compilers.is_repeatable(os.path.join(str(cuda), "bin", "nvcc"), builder.run)
    write_fronts(folder, tools.pair, cuda, is_repeatable, packages, source, job["archs"], job["cxx_standard"])
    tell("compiles")
    return _make_wheel(job, folder, source, own_environ, commands)


def make_environ(job: t.Mapping[str, t.Any], folder: JobFolder, builder: Builder) -> dict[str, str]:
    """The variables of the build: none of the user's, but those that the environment module sets."""
    os.makedirs(folder.home, exist_ok=True)
    path = [folder.bin, os.path.join(folder.venv, "bin"), builder.environ["PATH"]]
    jobs = job["jobs"] or count_jobs(
        machine.usable_cores(), machine.available_memory_mib(), job["memory_per_job_mib"]
    )
    return {
        **builder.module_environ,
        "PATH": ":".join(path),
        "HOME": folder.home,
        "TMPDIR": folder.home,
        "XDG_CACHE_HOME": folder.home,
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        **scratch_venv.bytecode_variables(folder, builder.interpreter),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "CC": os.path.join(folder.bin, "gcc"),
        "CXX": os.path.join(folder.bin, "g++"),
        "CUDAHOSTCXX": os.path.join(folder.bin, "g++"),
        "MAX_JOBS": str(jobs),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        "NVCC_THREADS": "1",
        "SOURCE_DATE_EPOCH": str(job["epoch"]),
        processes.MARK: folder.path,
        **job["environ"],
    }


def count_jobs(cores: int, memory_mib: int, memory_per_job_mib: int) -> int:
    """How many compilers may run at once."""
    by_memory = memory_mib // memory_per_job_mib if memory_per_job_mib else cores
    return max(1, min(cores, by_memory))


def label_filename(filename: str, label: str | None) -> str:
    """The name of a wheel with a local label in its version."""
    name, version, tags = filename.split("-", 2)
    if label:
        version += ("." if "+" in version else "+") + label
    return f"{name}-{version}-{tags}"


def _unpack_sources(job: t.Mapping[str, t.Any], folder: JobFolder) -> str:
    """Unpack what is built, and return its folder."""
    _once(folder.sources, lambda: unpacking.unpack(folder.delivered(job["sdist"]), folder.sources))
    source = unpacking.only_folder(folder.sources)
    if not any(os.path.isfile(os.path.join(source, name)) for name in ("setup.py", "pyproject.toml")):
        raise TorchExtensionError(
            f"{job['sdist']['filename']} has neither setup.py nor pyproject.toml in its first folder. Wanted is an sdist, or an archive"
            " of a repository that can be built. Take the archive from its project."
        )
    return source


def _unpack_cuda(job: t.Mapping[str, t.Any], folder: JobFolder, tell: t.Callable[..., object]) -> str:
    """Unpack NVIDIA's compiler, and return its home."""
    tell("unpacks NVIDIA's compiler")
    files = [*(job["toolchain"].get("wheels") or []), *(job["toolchain"].get("archives") or [])]
    _once(folder.cuda, lambda: toolkit.unpack_cuda(map(folder.delivered, files), folder.cuda))
    return folder.cuda


def _make_toolkit(
    job: t.Mapping[str, t.Any],
    folder: JobFolder,
    cuda: str,
    packages: t.Sequence[str],
    environ: t.Mapping[str, str],
) -> dict[str, str]:
    """Make the toolkit, and return the variables by which it is found."""
    nvidia = toolkit.find_nvidia_folders(packages)
    for path in (folder.compiler, folder.toolkit):
        unpacking.remove(path)
        os.mkdir(path)
    toolkit.link_compiler(cuda, folder.compiler, folder.bin)
    toolkit.link_toolkit(cuda, nvidia, folder.toolkit, os.path.join(folder.bin, "nvcc"))
    return {
        "CUDA_HOME": folder.toolkit,
        "CUDA_PATH": folder.toolkit,
        "CUDACXX": os.path.join(folder.bin, "nvcc"),
        "CPATH": ":".join([*toolkit.include_path(folder.toolkit, nvidia), *filter(None, [environ.get("CPATH")])]),
        "TORCH_CUDA_ARCH_LIST": ";".join(job["archs"]),
    }


def _make_wheel(
    job: t.Mapping[str, t.Any],
    folder: JobFolder,
    source: str,
    environ: t.Mapping[str, str],
    commands: LoggedCommands,
) -> dict[str, t.Any]:
    unpacking.remove(folder.wheels)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder.wheels]
    command = [scratch_venv.python(folder), "-m", "pip", "-v", "wheel", *options, source]
    commands.run(command, environ, source)
    names = os.listdir(folder.wheels)
    if len(names) != 1 or not names[0].endswith(".whl"):
        found = ", ".join(sorted(names)) or "no wheel"
        raise TorchExtensionError(f"{job['sdist']['filename']} gives {found}, wanted is one wheel.")
    name = label_filename(names[0], job["label"])
    path = os.path.join(folder.wheels, name)
    os.replace(os.path.join(folder.wheels, names[0]), path)
    return {"filename": name, "path": path, "sha256": sha256_of(path), "size": os.path.getsize(path)}


def _once(path: str, make: t.Callable[[], object]) -> None:
    """Make a folder, unless an earlier run has made it whole."""
    stamp = f"{path}.whole"
    if os.path.exists(stamp):
        return
    unpacking.remove(path)
    os.makedirs(path)
    make()
    with open(stamp, "w", encoding="utf-8"):
        pass
