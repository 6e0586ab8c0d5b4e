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
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import (
    ANY,
    CONTAINER_PRODUCT,
    CONTAINER_RELEASE,
    FILENAME,
    FULL,
    PACKAGES,
    PATH,
    ForcedAbi,
    Package,
    Switch,
)

T = TypeVar("T")

#: ``sys.platform`` and ``platform.system().lower()`` differ in these names only.
WINDOWS = ("windows", "win32")

#: What any of the projects has ever put on a release.
PUBLISHED_MACHINES = ("x86_64", "aarch64")


class NoGuessError(TorchExtensionError):
    """Upstream's ``setup.py`` crashes here, or builds without asking for a wheel."""


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
    known = find_version(key, version)
    node = _Build(key, package, known, environment)
    _refuse_what_stops_setup_py(node)
    label = _gpu_label(node)
    torch = _torch_in_filename(node)
    public_and_local = _version_in_filename(node)
    cxx11_abi = _assumed_cxx11_abi(node, on_rocm=not label.startswith("cu"))
    platform = _platform_tag(node)
    filename = FILENAME.format(
        distribution=package.distribution,
        version=public_and_local,
        label=label,
        torch=torch,
        abi=str(cxx11_abi).upper(),
        python=node.python_tag,
        platform=platform,
    )
    path = PATH.format(repository=package.repository, version=public_and_local, filename=filename)
    return Guess(
        name=key,
        version=known,
        filename=filename,
        url=f"{github_url.rstrip('/')}/{path}",
        label=label,
        torch=torch,
        cxx11_abi=cxx11_abi,
        python_tag=node.python_tag,
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
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key not in PACKAGES:
        raise NoGuessError(f"{name} is not a package that this collection knows; it knows {_join(PACKAGES)}.")
    return key, PACKAGES[key]


def find_version(name: str, version: str) -> str:
    """Find the spelling that upstream uses for a version of a package of the table.

    :raises NoGuessError: if the table does not have that version.
    """
    known = PACKAGES[name].versions
    wanted = _parse_version(version, f"{version} is not a version of {name}")
    parsed = _parse_versions(known)
    if wanted in parsed:
        return known[parsed.index(wanted)]
    if wanted > parsed[-1]:
        raise NoGuessError(
            f"{name} {version} is newer than {known[-1]}, where this collection's table of {name} ends. "
            "Update the collection, or ask for an older version."
        )
    place = bisect.bisect(parsed, wanted)
    raise NoGuessError(
        f"{name} {version} is not on the package index; the nearest versions that are: "
        f"{_join(known[max(place - 2, 0) : place + 2])}."
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
    """One package and version on one node: what all the rules look at."""

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

    def at(self, column: Sequence[tuple[str, T]]) -> T | None:
        return _fact_at(self.package, column, self.version)

    def is_on(self, switch: Switch) -> bool:
        return self.variables.get(switch.variable, switch.default) == "TRUE"


def _fact_at(package: Package, column: Sequence[tuple[str, T]], version: str) -> T | None:
    age = package.versions.index
    held = [value for first, value in column if age(first) <= age(version)]
    return held[-1] if held else None


def _refuse_what_stops_setup_py(node: _Build) -> None:
    if node.at(node.package.cuda) is None:
        first = node.package.cuda[0][0]
        raise NoGuessError(
            f"{node.what} asks for no wheel, its setup.py always builds from source; ask for {first} or newer."
        )
    force_build = node.at(node.package.force_build)
    if force_build and node.is_on(force_build):
        raise NoGuessError(
            f"{force_build.variable}=TRUE makes {node.what} build from source and ask for no wheel; unset it."
        )
    for variable in node.package.zero:
        if node.variables.get(variable, "0") != "0":
            raise NoGuessError(
                f"{variable}={node.variables[variable]} makes setup.py of {node.what} fail outside of its Git "
                "repository; unset it."
            )
    minimum = node.at(node.package.minimum_python)
    if minimum and node.python < _major_minor(minimum):
        raise NoGuessError(
            f"{node.what} stops on Python {node.python[0]}.{node.python[1]}, it needs {minimum} or newer; point "
            "torch_extension_python at such an interpreter."
        )
    if not node.has_torch:
        raise NoGuessError(_no_torch_message(node.what))


def _gpu_label(node: _Build) -> str:
    if _is_for_rocm(node):
        return _hip_label(node)
    if not node.torch["cuda"]:
        raise NoGuessError(_no_cuda_message(node))
    cuda = _parse_version(node.torch["cuda"], f"torch says CUDA {node.torch['cuda']}, which is not a version")
    torch = "" if node.at(node.package.torch) == FULL else _short_torch(node)
    rules = node.at(node.package.cuda) or ()
    for rule in rules:
        if rule.torch in (ANY, torch) and rule.cuda in (ANY, str(cuda.major)):
            return rule.label.format(major=cuda.major, minor=cuda.minor)
    accepted = _join([rule.cuda for rule in rules])
    raise NoGuessError(
        f"torch is built for CUDA {node.torch['cuda']}, and {node.what} refuses all but CUDA {accepted}; use a torch "
        "for one of these, or another version."
    )


def _is_for_rocm(node: _Build) -> bool:
    variable = node.at(node.package.build_target)
    target = node.variables.get(variable, "auto") if variable else "auto"
    if target not in ("auto", "cuda", "rocm"):
        raise NoGuessError(f"{variable}={target} makes setup.py of {node.what} crash; set it to auto, cuda or rocm.")
    is_rocm = bool(node.torch["hip"]) and node.at(node.package.hip) is not None
    if target == "rocm" and not node.torch["hip"]:
        raise NoGuessError(f"{variable}=rocm, but torch {node.torch['version']} is not built for ROCm; unset it.")
    if target == "cuda" and not node.torch["cuda"]:
        raise NoGuessError(f"{variable}=cuda, but torch {node.torch['version']} is not built for CUDA; unset it.")
    return is_rocm if target == "auto" else target == "rocm"


def _no_torch_message(what: str) -> str:
    return (
        f"{what} needs torch and the environment has none; install torch there first, or point "
        "torch_extension_python at the environment that has it."
    )


def _cpu_only_message(what: str, torch: str) -> str:
    return (
        f"torch {torch} is built for the CPU only, and {what} needs one that is built for CUDA; install torch from an "
        "index for CUDA."
    )


def _no_cuda_message(node: _Build) -> str:
    version = node.torch["version"]
    if not node.torch["hip"]:
        return _cpu_only_message(node.what, version)
    if not node.package.hip:
        return f"torch {version} is built for ROCm, and {node.what} knows CUDA only, as do all its versions."
    first = node.package.hip[0][0]
    return f"torch {version} is built for ROCm, and {node.what} crashes there; ask for {first} or newer."


def _hip_label(node: _Build) -> str:
    rule = node.at(node.package.hip)
    if rule is None:
        raise NoGuessError(_no_cuda_message(node))
    hip = node.torch["hip"]
    text = hip.split()[-1]
    text = (text.rstrip("-") if rule.strips_dash else text).replace("-", "+")
    version = _parse_version(text, f"torch says ROCm {hip}, which setup.py of {node.what} cannot read and crashes")
    return rule.label.format(major=version.major, minor=version.minor)


def _torch_in_filename(node: _Build) -> str:
    if node.at(node.package.container) and node.variables.get(CONTAINER_PRODUCT) == "PyTorch":
        # Upstream's str(None), where the release is not set.
        return str(node.variables.get(CONTAINER_RELEASE))
    return node.torch["version"] if node.at(node.package.torch) == FULL else _short_torch(node)


def _short_torch(node: _Build) -> str:
    text = node.torch["version"]
    version = _parse_version(text, f"torch says that its version is {text}, which setup.py of {node.what} cannot read")
    return f"{version.major}.{version.minor}"


def _version_in_filename(node: _Build) -> str:
    local = node.variables.get(node.package.local_version) if node.package.local_version else None
    return f"{node.version}+{local}" if local else node.version


def _assumed_cxx11_abi(node: _Build, on_rocm: bool) -> bool:
    forced = node.at(node.package.forced_abi)
    if forced and _is_forced(node, forced, on_rocm):
        return True
    if node.torch["cxx11_abi"] is None:
        raise NoGuessError(
            f"It is not known whether torch {node.torch['version']} is built with the C++11 ABI, which the file name "
            f"of {node.what} tells; find out why torch_info returned no cxx11_abi."
        )
    return bool(node.torch["cxx11_abi"])


def _is_forced(node: _Build, forced: ForcedAbi, on_rocm: bool) -> bool:
    if not node.is_on(forced.switch) or any(node.is_on(switch) for switch in forced.unless):
        return False
    return not (on_rocm and forced.unless_on_rocm and all(node.is_on(switch) for switch in forced.unless_on_rocm))


def _platform_tag(node: _Build) -> str:
    system = node.platform["system"]
    if system in WINDOWS:
        return "win_amd64"
    if system != "linux":
        raise NoGuessError(f"The node runs {system}, and no release of {node.name} has wheels for it; use Linux.")
    by_machine: dict[str, str] = node.at(node.package.platform) or {}
    machine = node.platform["machine"]
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
    found = []
    machine = "aarch64" if platform["machine"] == "arm64" else platform["machine"]
    if guess.platform != f"linux_{machine}":
        found.append(f"the wheel is for {guess.platform}, the node is {machine}")
    elif machine not in PUBLISHED_MACHINES:
        found.append(f"the node is {machine}, and wheels are published for {_join(PUBLISHED_MACHINES)} only")
    libc = platform.get("libc") or {}
    if libc.get("name") == "musl":
        found.append("the wheel is linked with glibc, the node has musl")
    return found


def _python_conflicts(guess: Guess, python: Mapping[str, Any]) -> list[str]:
    found = []
    if python["implementation"] != "cpython":
        found.append(f"the wheel is for CPython, the interpreter is {python['implementation']}")
    elif python["abi"] == f"{guess.python_tag}t":
        found.append(f"the wheel is for {guess.python_tag}, the interpreter is free-threaded ({python['abi']})")
    wanted = requires_python(guess.name, guess.version)
    if wanted and not SpecifierSet(wanted).contains(python["version"], prereleases=True):
        found.append(f"{guess.name} {guess.version} requires Python {wanted}, the interpreter is {python['version']}")
    return found


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
