# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Where the files of a build lie on the builder, and what its job is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.atomic import write_bytes
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import shorten
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import read_json as parse_file

_FILES = "files"  # of all jobs
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,150}")
_AWKWARD = re.compile(r"[^\w./+@~=-]")  # in commands that torch and nvcc put together without quotes
#: of a job, what does not change the wheel
_CIRCUMSTANCES = ("taker", "trusted_owners", "time_limit", "jobs", "memory_per_job_mib", "disk_mib", "slurm")


def resolve_folder(folder: str) -> str:
    """The folder of all builds, as an absolute path.

    :raises TorchExtensionError: if compilers cannot work in it
    """
    path = os.path.realpath(os.path.expanduser(folder))
    awkward = _AWKWARD.search(path)
    if awkward:
        raise TorchExtensionError(
            f"The build folder {path} has {awkward[0]!r} in its name, with which neither torch nor nvcc can work. Wanted is a path of"
            " letters, digits and ./_+-@=~. Set torch_extension_build_dir."
        )
    return path


class JobFolder:
    """The folder of one build."""

    def __init__(self, folder: str, job_id: str) -> None:
        """
        :param folder: of all builds (:func:`resolve_folder`)
        :raises TorchExtensionError: if the id is not one
        """
        if not _ID.fullmatch(job_id) or job_id == _FILES:
            raise TorchExtensionError(
                f"job.id is {job_id!r}, wanted is a name of letters, digits and ._+- other than {_FILES!r}."
            )
        self.folder, self.path = folder, os.path.join(folder, job_id)
        self.job, self.state, self.slurm = self._paths("job.json", "state.json", "slurm.json")
        self.lock, self.log, self.compiled = self._paths("lock", "build.log", "compiled.log")
        self.lib, self.bin, self.home = self._paths("lib", "bin", "home")
        self.sources, self.venv = self._paths("sources", "venv")
        self.cuda, self.compiler, self.toolkit = self._paths("cuda", "compiler", "toolkit")
        self.wheels, self.takers = self._paths("wheels", "takers")

    def _paths(self, *names: str) -> list[str]:
        return [os.path.join(self.path, name) for name in names]

    def delivered(self, file: t.Mapping[str, str]) -> str:
        """Where a file lies that was brought for builds."""
        return delivered_path(self.folder, file)


def read_json(path: str) -> dict[str, t.Any]:
    """The content of a JSON file; empty if there is none."""
    with contextlib.suppress(OSError, ValueError):
        content = parse_file(path)
        return content if isinstance(content, dict) else {}
    return {}


def write_json(path: str, content: t.Mapping[str, t.Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_bytes(path, json.dumps(content, indent=1).encode(), 0o600)


def delivered_path(folder: str, file: t.Mapping[str, str]) -> str:
    """Where a file lies that was brought for builds."""
    return os.path.join(folder, _FILES, shorten(file["sha256"]), os.path.basename(file["filename"]))


def list_files(job: t.Mapping[str, t.Any]) -> list[dict[str, str]]:
    """All files that a job needs."""
    toolchain = job.get("toolchain") or {}
    files = [job.get("sdist"), *(job.get("requirements") or []), *(job.get("torch") or [])]
    return [file for file in [*files, *(toolchain.get("wheels") or []), *(toolchain.get("archives") or [])] if file]


def same_inputs(job: t.Mapping[str, t.Any], other: t.Mapping[str, t.Any]) -> bool:
    """Whether two jobs make the same wheel."""
    return _inputs(job) == _inputs(other)


def _inputs(job: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {key: value for key, value in job.items() if key not in _CIRCUMSTANCES}
