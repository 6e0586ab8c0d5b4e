# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A build as the control node plans it, and the machine that builds."""

from __future__ import annotations

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._build.build_plan import Build

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
