# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A build of torch and a wheel: what the proof says of them, and what really happens."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nodes
from downloads import cache, fetch
from pinned import WHEELS, Build, Wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import environment as environment_module
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.proof import prove_all
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries import facts as facts_module

_QUESTIONS = Path(__file__).with_name("importing.py")


class Pair(NamedTuple):
    """What was said, and what came of it."""

    build: Build
    wheel: Wheel
    verdict: str
    reasons: Sequence[str]  # of the verdict
    complaints: dict[str, str]  # library in the wheel: what the loader said of it; those that load are left out
    failure: str | None  # why the package cannot be imported

    @property
    def loads(self) -> bool:
        return not self.complaints

    @property
    def imports(self) -> bool:
        return self.failure is None


def run(command: Sequence[str | Path]) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@functools.cache
def environment(build: Build) -> dict[str, Any]:
    """The environment of a build as ``torch_info`` tells it, but without GPUs: they have no part in the question."""
    return environment_module.describe_environment(str(nodes.with_torch(build)), [], run, {})[0]


@functools.cache
def facts(wheel: Wheel) -> dict[str, Any]:
    """What the binaries of a wheel need."""
    with tempfile.TemporaryDirectory(dir=cache()) as scratch:
        return facts_module.read_facts(str(fetch(wheel, nodes.interpreter())), scratch)


@functools.cache
def of(build: Build) -> dict[Wheel, Pair]:
    """All wheels with one build."""
    node = environment(build)
    verdicts = prove_all([facts(wheel) for wheel in WHEELS], node, {})
    found = {}
    with tempfile.TemporaryDirectory(dir=cache()) as scratch, _Process(build, Path(scratch, "log")) as process:
        for wheel, verdict in zip(WHEELS, verdicts, strict=True):
            folder = Path(scratch, "packages")
            _put(wheel, folder, Path(node["python"]["site_packages"]))
            libraries = {library["path"]: str(folder / library["path"]) for library in facts(wheel)["libraries"]}
            complaints = {
                name: process.ask(library=path, beside=[other for other in libraries.values() if other != path])
                for name, path in libraries.items()
            }
            failure = process.ask(module=wheel.module, folder=str(folder))
            complaints = {name: complaint for name, complaint in complaints.items() if complaint is not None}
            found[wheel] = Pair(build, wheel, verdict.verdict, verdict.reasons, complaints, failure)
            shutil.rmtree(folder)
    return found


@functools.cache
def _unpacked(wheel: Wheel) -> Path:
    folder = cache() / "unpacked" / f"{wheel.distribution}-{wheel.version}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            nodes.unpack(fetch(wheel, nodes.interpreter()), Path(scratch, "whole"))
            folder.parent.mkdir(exist_ok=True)
            Path(scratch, "whole").rename(folder)
    return folder


def _put(wheel: Wheel, folder: Path, site_packages: Path) -> None:
    """Lay a wheel out as if it were installed: what is in the environment is beside it, for that is where $ORIGIN leads."""
    shutil.copytree(_unpacked(wheel), folder, copy_function=os.link)
    for entry in site_packages.iterdir():
        if not (folder / entry.name).exists():
            (folder / entry.name).symlink_to(entry)


class _Process:
    """The interpreter of a build that has imported its torch, and answers questions about wheels."""

    def __init__(self, build: Build, log: Path) -> None:
        self._python, self._log = nodes.with_torch(build), log

    def __enter__(self) -> _Process:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [self._python, "-I", _QUESTIONS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={"LD_BIND_NOW": "1", "LC_ALL": "C.UTF-8", "PATH": os.defpath, "HOME": str(self._log.parent)},
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, **question: object) -> str | None:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        if not told:
            raise RuntimeError(f"torch cannot be imported with {self._python}: {self._log.read_text()[-2000:]}")
        return json.loads(told)
