# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The wheel that a version's own ``setup.py`` would ask for on a node, computed without running it.

Faithful to upstream, mistakes included; :func:`find_conflicts` says when such a wheel cannot serve the node. The rules are
in ``packages``. Taken for granted is what an environment does not tell: that upstream's checks of the compilers pass
(causal-conv1d, mamba-ssm and fast-hadamard-transform crash where there is no nvcc), and that no Git repository lies around
the unpacked sdist.
"""

from __future__ import annotations

import bisect
import difflib
import functools
import re
from typing import Any, Mapping, NamedTuple, Sequence, TypeVar

try:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version
except ImportError as error:
    HAS_PACKAGING = False
    PACKAGING_IMPORT_ERROR: ImportError | None = error
else:
    HAS_PACKAGING = True
    PACKAGING_IMPORT_ERROR = None

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import (
    ANY,
    CONTAINER_PRODUCT,
    CONTAINER_RELEASE,
    FILENAME,
    FULL,
    OTHER_NAMES,
    OTHER_PACKAGES,
    PACKAGES,
    PATH,
    ForcedAbi,
    Package,
    Switch,
)

T = TypeVar("T")

#: ``sys.platform`` and ``platform.system().lower()`` differ in these names only.
WINDOWS = ("windows", "win32")

_NEAR = 0.75  # of difflib's ratio, that flash-attention and flash-attn have

#: What any of the projects has ever put on a release.
PUBLISHED_MACHINES = ("x86_64", "aarch64")


class NoGuessError(TorchExtensionError):
    """Upstream's ``setup.py`` crashes here, or builds without asking for a wheel; or nobody knows what it does."""

    def __init__(self, message: str, is_unknown: bool = False) -> None:
        """
        :param is_unknown: whether it is this collection that does not know the version
        """
        super().__init__(message)
        self.is_unknown = is_unknown


class Guess(NamedTuple):
    """A wheel that upstream would ask for; whether it exists is another question."""

    name: str
    version: str
    filename: str
    url: str
    label: str
    torch: str
    cxx11_abi: bool
    python_tag: str
    platform: str


def guess_wheel(
    name: str, version: str, environment: Mapping[str, Any], github_url: str = "https://github.com"
) -> Guess:
    """Compute what ``setup.py`` of ``name`` ``version`` would hand to ``urlretrieve`` on a node.

    :param name: a package of the table, in any spelling that PEP 503 takes as the same.
    :param environment: what ``torch_info`` returned; ``python``, ``platform``, ``torch`` and ``variables`` are read.
    :param github_url: the base in front of ``/{owner}/{repository}``, for a mirror.
    :raises NoGuessError: where the real one crashes or asks for nothing, or the version is not in the table.
    """
    key, package = find_package(name)
    known_version = find_version(key, version)
    build = _Build(key, package, known_version, environment)
    _refuse_what_stops_setup_py(build)
    label = _gpu_label(build)
    torch = _torch_in_filename(build)
    public_and_local = _version_in_filename(build)
    cxx11_abi = _assumed_cxx11_abi(build, on_rocm=not label.startswith("cu"))
    platform = _platform_tag(build)
    filename = FILENAME.format(
        distribution=package.distribution,
        version=public_and_local,
        label=label,
        torch=torch,
        abi=str(cxx11_abi).upper(),
        python=build.python_tag,
        platform=platform,
    )
    path = PATH.format(repository=package.repository, version=public_and_local, filename=filename)
    return Guess(
        name=key,
        version=known_version,
        filename=filename,
        url=f"{github_url.rstrip('/')}/{path}",
        label=label,
        torch=torch,
        cxx11_abi=cxx11_abi,
        python_tag=build.python_tag,
        platform=platform,
    )


def find_conflicts(guess: Guess, environment: Mapping[str, Any]) -> list[str]:
    """Tell why the wheel cannot serve the node, one sentence each; nothing is said about whether it exists.

    :param guess: the answer of :func:`guess_wheel` for the same environment.
    """
    return [
        *_cuda_conflicts(guess, environment["torch"]),
        *_abi_conflicts(guess, environment["torch"]),
        *_torch_conflicts(guess),
        *_platform_conflicts(guess, environment["platform"]),
        *_python_conflicts(guess, environment["python"]),
    ]


def find_package(name: str) -> tuple[str, Package]:
    """Find a package by any spelling of its name; return the normalized name with it.

    :raises NoGuessError: if the table does not have it.
    """
    key = canonical(name)
    if key not in PACKAGES:
        meant = _near_name(key)
        question = f" Do you mean {meant}?" if meant else ""
        raise NoGuessError(
            f"{name} is not a package that this collection knows.{question} It knows {_join(PACKAGES)}. See"
            " torch_extension_packages."
        )
    return key, PACKAGES[key]


def _near_name(key: str) -> str | None:
    """The package of the table that a name may mean."""
    if key in OTHER_PACKAGES:
        return None
    near = difflib.get_close_matches(key, PACKAGES, n=1, cutoff=_NEAR)
    return OTHER_NAMES.get(key) or (near[0] if near else None)


def find_version(name: str, version: str) -> str:
    """Find the spelling that upstream uses for a version of a package of the table.

    :raises NoGuessError: if the table does not have that version.
    """
    versions = PACKAGES[name].versions
    if not versions:
        raise NoGuessError(
            f"setup.py of {name} downloads no wheel, so there is none to guess. Name another source in torch_extension_sources."
        )
    requested = _parse_version(version, f"{version} is not a version of {name}")
    parsed = _parse_versions(versions)
    if requested in parsed:
        return versions[parsed.index(requested)]
    if requested > parsed[-1]:
        raise NoGuessError(
            f"{name} {version} is newer than {versions[-1]}, the last version of which this collection can guess the wheel.",
            is_unknown=True,
        )
    index = bisect.bisect(parsed, requested)
    raise NoGuessError(
        f"{name} {version} is none of the versions that this collection knows; the nearest of them are: "
        f"{_join(versions[max(index - 2, 0) : index + 2])}.",
        is_unknown=True,
    )


def requires_python(name: str, version: str) -> str | None:
    """Return the sdist's ``Requires-Python``, or None where it has none.

    :param name: the normalized name of a package of the table.
    :param version: one of its versions, spelled as in the table.
    """
    package = PACKAGES[name]
    return _fact_at(package, package.requires_python, version)


def check_torch(what: str, torch: Mapping[str, Any] | None) -> None:
    """Refuse an environment in which no CUDA extension can work.

    :param what: the extension, in words.
    :param torch: what ``torch_info`` returned of it.
    :raises NoGuessError: if there is no torch, or one for the CPU only.
    """
    if torch is None:
        raise NoGuessError(_no_torch_message(what))
    if not torch["cuda"] and not torch["hip"]:
        raise NoGuessError(_cpu_only_message(what, torch["version"]))


class _Build:
    """A package in one version on one node: the input of all rules."""

    def __init__(self, name: str, package: Package, version: str, environment: Mapping[str, Any]) -> None:
        self.name = name
        self.package = package
        self.version = version
        self.what = f"{name} {version}"
        self.variables: Mapping[str, str] = environment.get("variables") or {}
        self.platform: Mapping[str, Any] = environment["platform"]
        self.python = _major_minor(environment["python"]["version"])
        self.python_tag = "cp{}{}".format(*self.python)
        self.has_torch = environment["torch"] is not None
        self.torch: Mapping[str, Any] = environment["torch"] or {}

    def fact(self, column: Sequence[tuple[str, T]]) -> T | None:
        return _fact_at(self.package, column, self.version)

    def is_on(self, switch: Switch) -> bool:
        return self.variables.get(switch.variable, switch.default) == "TRUE"


def _fact_at(package: Package, column: Sequence[tuple[str, T]], version: str) -> T | None:
    index_of = package.versions.index
    values = [value for first, value in column if index_of(first) <= index_of(version)]
    return values[-1] if values else None


def _refuse_what_stops_setup_py(build: _Build) -> None:
    if build.fact(build.package.cuda) is None:
        first = build.package.cuda[0][0]
        raise NoGuessError(
            f"{build.what} asks for no wheel, its setup.py always builds from source; ask for {first} or newer."
        )
    force_build = build.fact(build.package.force_build)
    if force_build and build.is_on(force_build):
        raise NoGuessError(
            f"{force_build.variable}=TRUE makes {build.what} build from source and ask for no wheel; unset it."
        )
    for variable in build.package.zero:
        if build.variables.get(variable, "0") != "0":
            raise NoGuessError(
                f"{variable}={build.variables[variable]} makes setup.py of {build.what} fail outside of its Git "
                "repository; unset it."
            )
    minimum = build.fact(build.package.minimum_python)
    if minimum and build.python < _major_minor(minimum):
        raise NoGuessError(
            f"{build.what} stops on Python {build.python[0]}.{build.python[1]}, it needs {minimum} or newer; point "
            "torch_extension_python at such an interpreter."
        )
    if not build.has_torch:
        raise NoGuessError(_no_torch_message(build.what))


def _gpu_label(build: _Build) -> str:
    if _is_for_rocm(build):
        return _hip_label(build)
    if not build.torch["cuda"]:
        raise NoGuessError(_no_cuda_message(build))
    cuda = _parse_version(build.torch["cuda"], f"torch says CUDA {build.torch['cuda']}, which is not a version")
    torch = "" if build.fact(build.package.torch) == FULL else _short_torch(build)
    rules = build.fact(build.package.cuda) or ()
    for rule in rules:
        if rule.torch in (ANY, torch) and rule.cuda in (ANY, str(cuda.major)):
            return rule.label.format(major=cuda.major, minor=cuda.minor)
    accepted = _join([rule.cuda for rule in rules])
    raise NoGuessError(
        f"torch is built for CUDA {build.torch['cuda']}, and {build.what} refuses all but CUDA {accepted}; use a torch "
        "for one of these, or another version."
    )


def _is_for_rocm(build: _Build) -> bool:
    variable = build.fact(build.package.build_target)
    target = build.variables.get(variable, "auto") if variable else "auto"
    if target not in ("auto", "cuda", "rocm"):
        raise NoGuessError(f"{variable}={target} makes setup.py of {build.what} crash; set it to auto, cuda or rocm.")
    is_rocm = bool(build.torch["hip"]) and build.fact(build.package.hip) is not None
    if target == "rocm" and not build.torch["hip"]:
        raise NoGuessError(f"{variable}=rocm, but torch {build.torch['version']} is not built for ROCm; unset it.")
    if target == "cuda" and not build.torch["cuda"]:
        raise NoGuessError(f"{variable}=cuda, but torch {build.torch['version']} is not built for CUDA; unset it.")
    return is_rocm if target == "auto" else target == "rocm"


def _no_torch_message(what: str) -> str:
    return (
        f"{what} needs torch, and the environment has none. Install torch there first, or point torch_extension_python at the "
        "environment that has it. One that `module load` brings counts where the play's environment sets what the module sets "
        "(PYTHONPATH, EBPYTHONPREFIXES)."
    )


def _cpu_only_message(what: str, torch: str) -> str:
    return (
        f"torch {torch} is built for the CPU only, and {what} needs one that is built for CUDA; install torch from an "
        "index for CUDA."
    )


def _no_cuda_message(build: _Build) -> str:
    version = build.torch["version"]
    if not build.torch["hip"]:
        return _cpu_only_message(build.what, version)
    if not build.package.hip:
        return f"torch {version} is built for ROCm, and {build.what} knows CUDA only, as do all its versions."
    first = build.package.hip[0][0]
    return f"torch {version} is built for ROCm, and {build.what} crashes there; ask for {first} or newer."


def _hip_label(build: _Build) -> str:
    rule = build.fact(build.package.hip)
    if rule is None:
        raise NoGuessError(_no_cuda_message(build))
    hip = build.torch["hip"]
    text = hip.split()[-1]
    text = (text.rstrip("-") if rule.strips_dash else text).replace("-", "+")
    version = _parse_version(text, f"torch says ROCm {hip}, which setup.py of {build.what} cannot read and crashes")
    return rule.label.format(major=version.major, minor=version.minor)


def _torch_in_filename(build: _Build) -> str:
    if build.fact(build.package.container) and build.variables.get(CONTAINER_PRODUCT) == "PyTorch":
        # Upstream's str(None), where the release is not set.
        return str(build.variables.get(CONTAINER_RELEASE))
    return build.torch["version"] if build.fact(build.package.torch) == FULL else _short_torch(build)


def _short_torch(build: _Build) -> str:
    text = build.torch["version"]
    version = _parse_version(text, f"torch says that its version is {text}, which setup.py of {build.what} cannot read")
    return f"{version.major}.{version.minor}"


def _version_in_filename(build: _Build) -> str:
    local = build.variables.get(build.package.local_version) if build.package.local_version else None
    return f"{build.version}+{local}" if local else build.version


def _assumed_cxx11_abi(build: _Build, on_rocm: bool) -> bool:
    forced = build.fact(build.package.forced_abi)
    if forced and _is_forced(build, forced, on_rocm):
        return True
    if build.torch["cxx11_abi"] is None:
        raise NoGuessError(
            f"It is not known whether torch {build.torch['version']} is built with the C++11 ABI, which the file name "
            f"of {build.what} tells; find out why torch_info returned no cxx11_abi."
        )
    return bool(build.torch["cxx11_abi"])


def _is_forced(build: _Build, forced: ForcedAbi, on_rocm: bool) -> bool:
    if not build.is_on(forced.switch) or any(build.is_on(switch) for switch in forced.unless):
        return False
    return not (on_rocm and forced.unless_on_rocm and all(build.is_on(switch) for switch in forced.unless_on_rocm))


def _platform_tag(build: _Build) -> str:
    system = build.platform["system"]
    if system in WINDOWS:
        return "win_amd64"
    if system != "linux":
        raise NoGuessError(f"The node runs {system}, and no release of {build.name} has wheels for it; use Linux.")
    by_machine: dict[str, str] = build.fact(build.package.platform) or {}
    machine = build.platform["machine"]
    return by_machine.get(machine, by_machine[ANY]).format(machine=machine)


def _cuda_conflicts(guess: Guess, torch: Mapping[str, Any]) -> list[str]:
    # cu118 and cu11 alike; a wheel serves every minor version of its major (NVIDIA's minor version compatibility).
    match = re.match(r"cu(\d\d)", guess.label)
    if match and match.group(1) != str(torch["cuda"]).partition(".")[0]:
        return [f"the wheel is built for CUDA {match.group(1)}, torch for CUDA {torch['cuda']}"]
    return []


def _abi_conflicts(guess: Guess, torch: Mapping[str, Any]) -> list[str]:
    if torch["cxx11_abi"] in (None, guess.cxx11_abi):
        return []
    forced_by = PACKAGES[guess.name].forced_abi[-1][1].switch.variable
    return [f"the wheel is built with the C++11 ABI because {forced_by} is TRUE, torch without"]


def _torch_conflicts(guess: Guess) -> list[str]:
    if guess.torch != "None":
        return []
    return [f"no wheel is named so: {CONTAINER_PRODUCT} is PyTorch and {CONTAINER_RELEASE} is not set"]


def _platform_conflicts(guess: Guess, platform: Mapping[str, Any]) -> list[str]:
    if platform["system"] != "linux":
        return [f"the node runs {platform['system']}, and wheels are published for Linux only"]
    conflicts = []
    machine = "aarch64" if platform["machine"] == "arm64" else platform["machine"]
    if guess.platform != f"linux_{machine}":
        conflicts.append(f"the wheel is for {guess.platform}, the node is {machine}")
    elif machine not in PUBLISHED_MACHINES:
        conflicts.append(f"the node is {machine}, and wheels are published for {_join(PUBLISHED_MACHINES)} only")
    libc = platform.get("libc") or {}
    if libc.get("name") == "musl":
        conflicts.append("the wheel is linked with glibc, the node has musl")
    return conflicts


def _python_conflicts(guess: Guess, python: Mapping[str, Any]) -> list[str]:
    conflicts = []
    if python["implementation"] != "cpython":
        conflicts.append(f"the wheel is for CPython, the interpreter is {python['implementation']}")
    elif python["abi"] == f"{guess.python_tag}t":
        conflicts.append(f"the wheel is for {guess.python_tag}, the interpreter is free-threaded ({python['abi']})")
    required = requires_python(guess.name, guess.version)
    if required and not SpecifierSet(required).contains(python["version"], prereleases=True):
        conflicts.append(
            f"{guess.name} {guess.version} requires Python {required}, the interpreter is {python['version']}"
        )
    return conflicts


@functools.lru_cache(maxsize=None)
def _parse_versions(versions: tuple[str, ...]) -> tuple[Version, ...]:
    return tuple(Version(version) for version in versions)


def _parse_version(text: str, complaint: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        raise NoGuessError(f"{complaint}.") from None


def _major_minor(python: str) -> tuple[int, ...]:
    return tuple(int(number) for number in python.split(".")[:2])


def _join(names: Any) -> str:
    names = list(names)
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
