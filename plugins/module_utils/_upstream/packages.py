# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""What upstream's ``setup.py`` does, as data: one row group per package.

Source of every row: the ``setup.py`` (for transformer-engine-torch also ``build_tools/``) in the sdist of each version
named. ``tests/conformance`` executes all of them and compares; where this table and a sdist differ, the sdist is right.

A fact that changed over time is a column: rows of ``(first version, value)``, oldest first, a row holding until the
next one. A version before the first row has no such fact. A new release is one more entry in ``versions``, a new rule
one more row.
"""

from __future__ import annotations

from typing import NamedTuple

ANY = "*"

#: The same for every package and version so far.
FILENAME = "{distribution}-{version}+{label}torch{torch}cxx11abi{abi}-{python}-{python}-{platform}.whl"
PATH = "{repository}/releases/download/v{version}/{filename}"

#: NVIDIA's images set the first to PyTorch, and the second to their own release, such as 25.09.
CONTAINER_PRODUCT = "NVIDIA_PRODUCT_NAME"
CONTAINER_RELEASE = "NVIDIA_PYTORCH_VERSION"


class Switch(NamedTuple):
    """A variable that is on when it is exactly ``TRUE``; upstream ignores ``true`` and ``1``."""

    variable: str
    default: str = "FALSE"


class CudaLabel(NamedTuple):
    """The label for a torch (``major.minor``) and a CUDA major; ``ANY`` matches all. The first that matches wins."""

    torch: str
    cuda: str
    label: str


class HipLabel(NamedTuple):
    """The label on ROCm. Without ``strips_dash``, a HIP version that ends in a dash is a crash."""

    label: str
    strips_dash: bool


class ForcedAbi(NamedTuple):
    """The switch that sets the C++11 ABI to TRUE, and what keeps it from being read."""

    switch: Switch
    unless: tuple[Switch, ...] = ()
    unless_on_rocm: tuple[Switch, ...] = ()  # all of them


class Package(NamedTuple):
    """The facts of one package. Each column is described above its first use.

    One whose ``setup.py`` downloads no wheel has only the first three.
    """

    distribution: str
    imports: tuple[str, ...]
    repository: str | None = None  # whose releases hold its wheels
    versions: tuple[str, ...] = ()
    requires_python: tuple[tuple[str, str], ...] = ()
    cuda: tuple[tuple[str, tuple[CudaLabel, ...]], ...] = ()
    hip: tuple[tuple[str, HipLabel], ...] = ()
    platform: tuple[tuple[str, dict[str, str]], ...] = ()
    torch: tuple[tuple[str, str], ...] = ()
    container: tuple[tuple[str, bool], ...] = ()
    build_target: tuple[tuple[str, str], ...] = ()
    minimum_python: tuple[tuple[str, str], ...] = ()
    force_build: tuple[tuple[str, Switch | None], ...] = ()
    forced_abi: tuple[tuple[str, ForcedAbi], ...] = ()
    local_version: str | None = None
    zero: tuple[str, ...] = ()


OWN_CUDA = CudaLabel(ANY, ANY, "cu{major}{minor}")
CUDA_11_8_OR_12_2 = (CudaLabel(ANY, "11", "cu118"), CudaLabel(ANY, ANY, "cu122"))
CUDA_11_8_OR_12_3 = (CudaLabel(ANY, "11", "cu118"), CudaLabel(ANY, ANY, "cu123"))
CUDA_11_OR_12 = (CudaLabel(ANY, "11", "cu11"), CudaLabel(ANY, ANY, "cu12"))
CUDA_11_OR_12_OR_13 = (CudaLabel(ANY, "11", "cu11"), CudaLabel(ANY, "12", "cu12"), CudaLabel(ANY, ANY, "cu13"))
CUDA_11_12_13_ONLY = (CudaLabel(ANY, "11", "cu11"), CudaLabel(ANY, "12", "cu12"), CudaLabel(ANY, "13", "cu13"))

ALWAYS_X86_64 = {ANY: "linux_x86_64"}
OWN_MACHINE = {ANY: "linux_{machine}"}
AARCH64_OR_X86_64 = {"aarch64": "linux_aarch64", "arm64": "linux_aarch64", ANY: "linux_x86_64"}

SHORT = "{major}.{minor}"
FULL = "{version}"

FLASH_ATTN_SKIP_CUDA = Switch("FLASH_ATTENTION_SKIP_CUDA_BUILD")
FLASH_ATTN_ABI = ForcedAbi(Switch("FLASH_ATTENTION_FORCE_CXX11_ABI"), unless=(FLASH_ATTN_SKIP_CUDA,))
FLASH_ATTN_TRITON = Switch("FLASH_ATTENTION_TRITON_AMD_ENABLE")

PACKAGES = {
    "flash-attn": Package(
        distribution="flash_attn",
        repository="Dao-AILab/flash-attention",
        imports=("flash_attn",),
        # Every version on the package index that has a sdist, yanked ones included.
        versions=(
            *("0.2.0", "0.2.1", "0.2.2", "0.2.3", "0.2.4", "0.2.5", "0.2.6.post1", "0.2.7", "0.2.8"),
            *("1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.3.post0", "1.0.4", "1.0.5", "1.0.6", "1.0.7", "1.0.8", "1.0.9"),
            *("2.0.0.post1", "2.0.1", "2.0.2", "2.0.3", "2.0.4", "2.0.5", "2.0.6", "2.0.6.post2"),
            *("2.0.7", "2.0.8", "2.0.9", "2.1.0", "2.1.1", "2.1.2.post3"),
            *("2.2.0", "2.2.1", "2.2.2", "2.2.3.post2", "2.2.4", "2.2.4.post1", "2.2.5"),
            *("2.3.0", "2.3.1.post1", "2.3.2", "2.3.3", "2.3.4", "2.3.5", "2.3.6"),
            *("2.4.0.post1", "2.4.1", "2.4.2", "2.4.3.post1"),
            *("2.5.0", "2.5.1.post1", "2.5.2", "2.5.3", "2.5.4", "2.5.5", "2.5.6", "2.5.7", "2.5.8", "2.5.9.post1"),
            *("2.6.0.post1", "2.6.1", "2.6.2", "2.6.3"),
            *("2.7.0.post2", "2.7.1.post4", "2.7.2.post1", "2.7.3", "2.7.4.post1"),
            *("2.8.0.post2", "2.8.1", "2.8.2", "2.8.3", "2.8.3.post1", "2.8.3.post2"),
        ),
        # pip refuses the sdist on any other Python; setup.py itself does not look.
        requires_python=(("0.2.0", ">=3.7"), ("2.6.0.post1", ">=3.8"), ("2.7.1.post4", ">=3.9")),
        # The first row is the first version with a wheel command: those before guess nothing.
        cuda=(
            ("2.0.6", (OWN_CUDA,)),
            # Upstream's mistake: CUDA 11 gets cu122 as well.
            ("2.2.3.post2", (CudaLabel("2.1", ANY, "cu122"), OWN_CUDA)),
            ("2.3.1.post1", (CudaLabel("2.1", "12", "cu122"), OWN_CUDA)),
            ("2.3.6", CUDA_11_8_OR_12_2),
            ("2.6.1", CUDA_11_8_OR_12_3),
            ("2.7.0.post2", CUDA_11_OR_12),
            ("2.8.3.post1", CUDA_11_OR_12_OR_13),
        ),
        hip=(("2.6.2", HipLabel("rocm{major}{minor}", strips_dash=True)),),
        platform=(("2.0.6", ALWAYS_X86_64), ("2.5.7", OWN_MACHINE)),
        torch=(("2.0.6", SHORT),),
        # Whether the release of NVIDIA's image stands in for torch's version.
        container=(),
        # auto, cuda or rocm; anything else is a crash.
        build_target=(("2.6.2", "BUILD_TARGET"),),
        # The Python below which setup.py itself gives up.
        minimum_python=(),
        force_build=(("2.0.6", Switch("FLASH_ATTENTION_FORCE_BUILD")),),
        forced_abi=(
            ("2.0.6", FLASH_ATTN_ABI),
            ("2.7.1.post4", FLASH_ATTN_ABI._replace(unless_on_rocm=(FLASH_ATTN_TRITON,))),
            (
                "2.8.0.post2",
                FLASH_ATTN_ABI._replace(
                    unless_on_rocm=(FLASH_ATTN_TRITON, Switch("FLASH_ATTENTION_SKIP_CK_BUILD", default="TRUE"))
                ),
            ),
        ),
        # Not FLASH_ATTENTION_…: upstream's own spelling.
        local_version="FLASH_ATTN_LOCAL_VERSION",
        # Variables with which setup.py fails unless they are 0.
        zero=(),
    ),
    "causal-conv1d": Package(
        distribution="causal_conv1d",
        repository="Dao-AILab/causal-conv1d",
        imports=("causal_conv1d",),
        versions=(
            *("1.0.0", "1.0.1", "1.0.2", "1.1.0", "1.1.1", "1.1.2.post1", "1.1.3.post1"),
            *("1.2.0.post1", "1.2.0.post2", "1.2.1", "1.2.2.post1", "1.3.0.post1", "1.4.0"),
            *("1.5.0.post5", "1.5.0.post8", "1.5.1", "1.5.2", "1.5.3.post1"),
            *("1.6.0", "1.6.1", "1.6.2.post1", "1.7.0"),
        ),
        requires_python=(("1.0.0", ">=3.7"), ("1.4.0", ">=3.8"), ("1.5.0.post5", ">=3.9")),
        cuda=(("1.0.0", CUDA_11_8_OR_12_2), ("1.5.0.post5", CUDA_11_OR_12), ("1.5.3.post1", CUDA_11_12_13_ONLY)),
        hip=(("1.3.0.post1", HipLabel("hip{major}{minor}", strips_dash=False)),),
        platform=(("1.0.0", ALWAYS_X86_64), ("1.6.2.post1", AARCH64_OR_X86_64)),
        torch=(("1.0.0", SHORT),),
        container=(("1.5.3.post1", True),),
        build_target=(),
        minimum_python=(),
        force_build=(("1.0.0", Switch("CAUSAL_CONV1D_FORCE_BUILD")),),
        forced_abi=(
            (
                "1.0.0",
                ForcedAbi(Switch("CAUSAL_CONV1D_FORCE_CXX11_ABI"), unless=(Switch("CAUSAL_CONV1D_SKIP_CUDA_BUILD"),)),
            ),
        ),
        local_version="CAUSAL_CONV1D_LOCAL_VERSION",
        zero=(),
    ),
    "mamba-ssm": Package(
        distribution="mamba_ssm",
        repository="state-spaces/mamba",
        imports=("mamba_ssm",),
        versions=(
            *("1.0.1", "1.1.0", "1.1.1", "1.1.2", "1.1.3.post1", "1.1.4"),
            *("1.2.0", "1.2.0.post1", "1.2.1", "1.2.2", "2.0.0", "2.0.1", "2.0.2", "2.0.3", "2.0.4", "2.1.0"),
            *("2.2.0", "2.2.1", "2.2.2", "2.2.3.post2", "2.2.4", "2.2.5", "2.2.6.post3"),
            *("2.3.0", "2.3.1", "2.3.2.post1"),
        ),
        requires_python=(("1.0.1", ">=3.7"), ("2.2.0", ">=3.8"), ("2.2.3.post2", ">=3.9")),
        cuda=(("1.0.1", CUDA_11_8_OR_12_2), ("2.2.3.post2", CUDA_11_OR_12), ("2.2.6.post3", CUDA_11_12_13_ONLY)),
        hip=(
            ("2.1.0", HipLabel("hip{major}{minor}", strips_dash=False)),
            ("2.2.0", HipLabel("hip{major}{minor}", strips_dash=True)),
        ),
        platform=(("1.0.1", ALWAYS_X86_64), ("2.3.2.post1", OWN_MACHINE)),
        torch=(("1.0.1", SHORT),),
        # 2.3.2.post1 also reads CUDA_VERSION there, but only after the label is made: it changes nothing.
        container=(("2.2.6.post3", True),),
        build_target=(),
        minimum_python=(),
        force_build=(("1.0.1", Switch("MAMBA_FORCE_BUILD")),),
        forced_abi=(("1.0.1", ForcedAbi(Switch("MAMBA_FORCE_CXX11_ABI"), unless=(Switch("MAMBA_SKIP_CUDA_BUILD"),))),),
        local_version="MAMBA_LOCAL_VERSION",
        zero=(),
    ),
    "fast-hadamard-transform": Package(
        distribution="fast_hadamard_transform",
        repository="Dao-AILab/fast-hadamard-transform",
        imports=("fast_hadamard_transform",),
        versions=("1.0.0.post1", "1.0.1", "1.0.3.post3", "1.0.4.post1", "1.1.0"),
        requires_python=(("1.0.0.post1", ">=3.7"),),
        cuda=(("1.0.0.post1", (CudaLabel("2.1", "12", "cu122"), OWN_CUDA)), ("1.0.3.post3", CUDA_11_8_OR_12_2)),
        hip=(),
        platform=(("1.0.0.post1", ALWAYS_X86_64),),
        torch=(("1.0.0.post1", SHORT),),
        container=(),
        build_target=(),
        minimum_python=(),
        force_build=(("1.0.0.post1", Switch("FAST_HADAMARD_TRANSFORM_FORCE_BUILD")),),
        forced_abi=(
            (
                "1.0.0.post1",
                ForcedAbi(
                    Switch("FAST_HADAMARD_TRANSFORM_FORCE_CXX11_ABI"),
                    unless=(Switch("FAST_HADAMARD_TRANSFORM_SKIP_CUDA_BUILD"),),
                ),
            ),
        ),
        local_version="FAST_HADAMARD_TRANSFORM_LOCAL_VERSION",
        zero=(),
    ),
    "transformer-engine-torch": Package(
        distribution="transformer_engine_torch",
        repository="NVIDIA/TransformerEngine",
        imports=("transformer_engine",),
        versions=(
            *("0.0.1", "1.9.0", "1.10.0", "1.11.0", "1.12.0", "1.13.0"),
            *("2.1.0", "2.2.0", "2.3.0", "2.4.0", "2.5.0", "2.6.0", "2.6.0.post1", "2.7.0", "2.8.0", "2.9.0"),
            *("2.10.0", "2.11.0", "2.12.0", "2.13.0", "2.14.0", "2.14.1", "2.15.0", "2.16.0", "2.16.1"),
            *("2.17.0", "2.17.1", "2.18.0", "2.19.0", "2.20.2"),
        ),
        requires_python=(("2.9.0", ">=3.10.0"),),
        cuda=(
            ("2.8.0", CUDA_11_OR_12),
            ("2.9.0", (CudaLabel(ANY, "12", "cu12"), CudaLabel(ANY, "13", "cu12"))),
            ("2.10.0", (CudaLabel(ANY, "12", "cu12"), CudaLabel(ANY, "13", "cu13"))),
        ),
        hip=(),
        platform=(("2.8.0", OWN_MACHINE),),
        torch=(("2.8.0", SHORT), ("2.10.0", FULL)),
        container=(("2.10.0", True),),
        build_target=(),
        minimum_python=(("2.9.0", "3.10"),),
        # 2.8.0 and 2.9.0 build when told to, and then go on to guess and download all the same.
        force_build=(("2.8.0", None), ("2.10.0", Switch("NVTE_PYTORCH_FORCE_BUILD"))),
        forced_abi=(("2.8.0", ForcedAbi(Switch("NVTE_PYTORCH_FORCE_CXX11_ABI"))),),
        local_version=None,
        zero=("NVTE_RELEASE_BUILD",),
    ),
    # What others publish ready-made, and whose own setup.py downloads nothing.
    "flash-attn-3": Package("flash_attn_3", ("flash_attn_interface",)),
    "xformers": Package("xformers", ("xformers.ops",)),
    "natten": Package("natten", ("natten",)),
    "torch-scatter": Package("torch_scatter", ("torch_scatter",)),
    "torch-sparse": Package("torch_sparse", ("torch_sparse",)),
    "torch-cluster": Package("torch_cluster", ("torch_cluster",)),
    "pyg-lib": Package("pyg_lib", ("pyg_lib",)),
}

#: What people call packages, beside their names: after a project, a repository or a folder of it.
OTHER_NAMES = {
    "flash-attention": "flash-attn",
    "flash-attention-2": "flash-attn",
    "flash-attention-3": "flash-attn-3",
    "flashattn-hopper": "flash-attn-3",  # as its first versions were called
    "flash-attn-interface": "flash-attn-3",
    "mamba": "mamba-ssm",
    "transformer-engine": "transformer-engine-torch",  # which alone is built for one torch
    "selective-scan-cuda": "mamba-ssm",
}

#: Packages of others whose names are near to those of the table; none of that is meant.
OTHER_PACKAGES = frozenset(
    (
        "flash-attn-4",
        "flash-attn-cute",
        "torch",
        "transformer-engine-cu11",
        "transformer-engine-cu12",
        "transformer-engine-cu13",
        "transformer-engine-jax",
    )
)


def package_facts(name: str) -> Package:
    """The facts of a package; of one that the table lacks, such as a site's own, no more than its name tells.

    :param name: normalised
    """
    return PACKAGES.get(name) or Package(distribution=name.replace("-", "_"), imports=())


def variable_names(package: Package) -> tuple[str, ...]:
    """Name the environment variables that can change the guess for any version of a package, sorted."""
    names = {variable for _first, variable in package.build_target} | set(package.zero)
    names.update(switch.variable for _first, switch in package.force_build if switch)
    for _first, forced in package.forced_abi:
        names.update(switch.variable for switch in (forced.switch, *forced.unless, *forced.unless_on_rocm))
    if package.container:
        names.update((CONTAINER_PRODUCT, CONTAINER_RELEASE))
    if package.local_version:
        names.add(package.local_version)
    return tuple(sorted(names))


#: What a probe of a node has to read: the variables of all packages.
VARIABLES = tuple(sorted({variable for package in PACKAGES.values() for variable in variable_names(package)}))
