# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A build as the control node plans it, and the machine that builds."""

from __future__ import annotations

from pathlib import Path

from wheels import sha256

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.build_plan import Build
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.built import (
    BuildKind,
    BuildRecord,
    BuiltWheel,
    store_wheel,
)

KIND = {"python": "cp311", "machine": "x86_64", "torch": "2.14", "cuda": "13", "hip": None, "cxx11_abi": True}
SDIST = {
    "filename": "causal_conv1d-1.7.0.tar.gz",
    "url": "file:///srv/causal_conv1d-1.7.0.tar.gz",
    "sha256": "a" * 64,
    "size": 1,
    "source": "directory:/srv",
}
BUILD = Build(
    id="causal-conv1d-1.7.0-0123456789abcdef",
    name="causal-conv1d",
    version="1.7.0",
    builder="b01",
    is_slurm=False,
    python=None,
    nodes=["n01", "n02"],
    sdist=SDIST,
    kind=KIND,
    torch="2.14.1+cu130",
    cuda="13.0",
    libc="2.36",
    architectures=["9.0"],
)


def machine(**more) -> dict:
    """A machine that can build it, as build_job describes it."""
    return {
        "machine": "x86_64",
        "libc": "2.36",
        "cores": 16,
        "load": 0.0,
        "memory_mib": 64000,
        "free_mib": 100000,
        "folder": "/root/.cache/airgap.torch_extensions.build",
        "cxx": {"path": "/usr/bin/g++", "version": "12.2.0"},
        "nvcc": None,
        "python_headers": True,
        "python": {"executable": "/opt/venv/bin/python", "tag": "cp311", "abi": "cp311", "version": "3.11.2"},
        "torch": {"version": "2.14.0+cu130", "cuda": "13.0", "cxx11_abi": True},
        **more,
    }


def store_built(cache: Path, environment: dict, sdist: Path, **more) -> BuiltWheel:
    """Put a wheel into the store, as if it had been built for a node from an sdist."""
    name, _dash, version = sdist.name.removesuffix(".tar.gz").partition("-")
    kind = BuildKind.of(environment)
    cache.mkdir(exist_ok=True)
    (cache / "new.whl").write_bytes(b"wheel")
    record = BuildRecord(
        name=name.replace("_", "-"),
        version=version,
        filename=f"{name}-{version}+{kind.label}-cp311-cp311-linux_x86_64.whl",
        sha256="a" * 64,
        size=5,
        kind=kind,
        libc=environment["platform"]["libc"]["version"],
        architectures=("9.0",),
        sdist=sdist.name,
        sdist_sha256=sha256(sdist),
        asked_sha256=sha256(sdist),
        torch=environment["torch"]["version"],
        compilers={},
        builder="b01",
        core_seconds=1.0,
        built_at=1.0,
    )
    return store_wheel(str(cache), str(cache / "new.whl"), record._replace(**more))
