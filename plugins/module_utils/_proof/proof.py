# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Whether an environment of this node has what the binaries of a wheel need, told before the wheel is here."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.gpu_code import judge_gpu_code
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.library_exports import ElfError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.loader import (
    Extension,
    Library,
    Process,
    with_dependencies,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import (
    DOES_NOT_FIT,
    FITS,
    STABLE_ABI,
    UNKNOWN,
    Finding,
    Verdict,
    conclude,
)

FACTS_VERSION = 4

_MAX_NAMES = 5  # symbols that a message names
_MAX_LENGTH = 100  # characters of each, for those of C++ go on for lines
_TORCH_NAMESPACES = frozenset(("at", "c10", "c10d", "caffe2", "torch"))  # namespaces

# What the compiler puts at both ends of a library refers to these weakly: they may be absent.
_OPTIONAL_SYMBOLS = frozenset(
    ("__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__cxa_finalize")
)


def prove_all(
    wheels: t.Iterable[t.Mapping[str, t.Any]], environment: t.Mapping[str, t.Any], environ: t.Mapping[str, str]
) -> list[Verdict]:
    """A verdict for each wheel, as :func:`prove` gives it.

    :param environ: the environment variables that a process of the environment would have, as far as they are known
    """
    with Process.with_torch(environment, environ) as process:
        return [prove(facts, environment, process) for facts in wheels]


def prove_wheels(
    wheels: t.Sequence[t.Mapping[str, t.Any]], environment: t.Mapping[str, t.Any], environ: t.Mapping[str, str]
) -> list[dict[str, t.Any]]:
    """The verdicts of :func:`prove_all` as modules return them: ``filename``, ``verdict`` and ``reasons`` of each wheel.

    :raises TorchExtensionError: if the facts of a wheel are not whole
    """
    try:
        verdicts = prove_all(wheels, environment, environ)
        return [{"filename": facts["filename"], **verdict._asdict()} for facts, verdict in zip(wheels, verdicts)]
    except KeyError as exc:
        raise TorchExtensionError(
            f"facts has a wheel without {exc}. Give what was read from the wheel, as it is."
        ) from exc


def needs_gpus(wheels: t.Iterable[t.Mapping[str, t.Any]]) -> bool:
    """Whether the GPUs and their driver are needed for the verdicts."""
    return any(facts.get("architectures") or facts.get("cuda") for facts in wheels)


def prove(facts: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], process: Process) -> Verdict:
    """Whether the libraries of a wheel would load in an environment, and have code for its GPUs.

    A library loads when each library that it needs is found, and each of these defines the versions that are needed of it,
    and each symbol is exported by something in its scope: what all see (the interpreter, and what torch loads with
    RTLD_GLOBAL), and what it needs itself, directly or not (dlopen(3)). Symbols are looked up without their version: the
    loader, too, holds versions against the library as a whole before it looks for a symbol.

    :param facts: what the wheel's binaries need
    :param environment: as torch_info describes it, with its GPUs and driver
    :param process: a process of that environment that has imported its torch; it stays as it is
    """
    if facts["version"] != FACTS_VERSION:
        reason = f"its facts are of version {facts['version']}, wanted is {FACTS_VERSION}: another version of this collection"
        return Verdict(UNKNOWN, [reason])
    findings = [Finding(UNKNOWN, problem) for problem in facts["problems"]]
    libc = (environment["platform"]["libc"] or {}).get("name")
    if facts["libraries"] and libc != "glibc":
        # another loader has other rules
        findings.append(Finding(UNKNOWN, f"needs glibc, and this node has {libc or 'an unknown C library'}"))
        return conclude(findings)
    library_findings = list(_judge_libraries(facts, environment, process)) if facts["libraries"] else []
    if library_findings:  # else all symbols were found, and the ABI is proven with them
        findings += _judge_abi(facts, environment)
    findings += [*library_findings, *judge_gpu_code(facts, environment.get("gpus"), environment.get("driver"))]
    if facts["torch_abi"] == STABLE_ABI:
        findings.append(Finding(FITS, "needs only the part of torch that stays stable, which a newer torch has, too"))
    return conclude(findings)


def _judge_libraries(
    facts: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], process: Process
) -> t.Iterator[Finding]:
    """Find what keeps the libraries of a wheel from loading.

    Which of them needs which other one is not judged: it came with the wheel, and its Python code may load them in any order.
    Each is taken to see what any other of them brings along.
    """
    machine = process.program.elf.machine if process.program else environment["platform"]["machine"]
    foreign = [library for library in facts["libraries"] if library["machine"] != machine]
    if foreign:
        yield from (
            Finding(DOES_NOT_FIT, f"is for {library['machine']}, the interpreter for {machine} ({library['path']})")
            for library in foreign
        )
        return
    fork = process.fork()
    found: dict[str, Library] = {}
    gaps: list[Finding] = []  # in which more symbols may be
    for library in facts["libraries"]:
        folder = _installed_folder(library["path"], environment)
        loaded, missing = fork.load(Extension(folder, library["needed"], library["runpath"]))
        found.update(loaded)
        gaps += [_missing_library(name, "", fork, environment) for name in missing]
    for item in with_dependencies(found.values()):
        gaps += [_missing_library(name, item.elf.path, fork, environment) for name in item.missing]
    names = {name for library in facts["libraries"] for name in library["undefined"]} - _OPTIONAL_SYMBOLS
    unexported, unread = _find_unexported(names, with_dependencies([*process.global_scope, *found.values()]))
    gaps += [Finding(UNKNOWN, f"cannot be held against a library: {reason}") for reason in unread]
    absences = list(gaps)
    if unexported and gaps:
        absences.append(
            Finding(
                UNKNOWN,
                f"needs {_count_symbols(unexported)} that may be in a library that is not known here: {_list_symbols(unexported)}",
            )
        )
    elif unexported:
        absences += [Finding(DOES_NOT_FIT, reason) for reason in _explain_unexported(unexported, environment)]
    yield from _as_doubts(absences, process) if process.doubts else absences
    for library in facts["libraries"]:
        yield from _judge_versions(library["versions"], found, environment)


def _installed_folder(member: str, environment: t.Mapping[str, t.Any]) -> str:
    """The folder into which a library of a wheel is installed (PEP 427: NAME.data/purelib and platlib are site-packages)."""
    folder = os.path.dirname(re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", member))
    site_packages = environment["python"]["site_packages"] or os.sep  # there may be none yet
    return os.path.normpath(os.path.join(site_packages, folder))


def _as_doubts(absences: t.Sequence[Finding], process: Process) -> t.Iterator[Finding]:
    """Absences where not even torch's own libraries are all known: what is not found may be where they are."""
    if absences:
        yield from (Finding(UNKNOWN, doubt) for doubt in process.doubts)
    yield from (Finding(UNKNOWN, absence.reason) for absence in absences)


def _missing_library(name: str, needed_by: str, process: Process, environment: t.Mapping[str, t.Any]) -> Finding:
    chain = f"needs {needed_by}, which needs {name}" if needed_by else f"needs {name}"
    if name in process.unreadable:
        return Finding(UNKNOWN, f"{chain}, which cannot be judged ({process.unreadable[name]})")
    torch = environment["torch"] or {}
    # libcudart, libcublas, …, libnccl, libnvrtc
    cuda_note = (
        f" (torch is built for CUDA {torch['cuda']})" if re.match("lib(cu|nccl|nv)", name) and torch.get("cuda") else ""
    )
    return Finding(DOES_NOT_FIT, f"{chain}, which is nowhere on this node{cuda_note}")


def _judge_versions(
    versions: t.Mapping[str, t.Sequence[str]], found: t.Mapping[str, Library], environment: t.Mapping[str, t.Any]
) -> t.Iterator[Finding]:
    for name, required in versions.items():
        library = found.get(name)
        if library is None or not library.elf.versions:  # the loader only warns of a library that defines none
            continue
        missing = sorted(set(required) - library.elf.versions, key=_version_key)
        if missing:
            yield Finding(
                DOES_NOT_FIT,
                f"needs {', '.join(missing)} of {name}, {_describe_available(name, library, missing, environment)}",
            )


def _describe_available(
    name: str, library: Library, missing: t.Sequence[str], environment: t.Mapping[str, t.Any]
) -> str:
    libc = environment["platform"]["libc"]
    if name == "libc.so.6" and libc["version"]:
        return f"this node has glibc {libc['version']}"
    family = missing[-1].split("_")[0] + "_"  # GLIBCXX_3.4.30
    newest = max(
        (version for version in library.elf.versions if version.startswith(family)), key=_version_key, default="none"
    )
    return f"the newest in {library.elf.path} is {newest}"


def _find_unexported(names: t.Iterable[str], scope: t.Iterable[Library]) -> tuple[list[str], list[str]]:
    """The names that no library of a scope exports, and why some libraries could not be read."""
    unexported = set(names)
    errors = []
    for library in scope:
        if not unexported:
            break
        try:
            unexported -= library.elf.exports(unexported)
        except ElfError as exc:
            errors.append(str(exc))
    return sorted(unexported), errors


def _explain_unexported(names: t.Sequence[str], environment: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """Which library should have exported some names, in words."""
    torch = environment["torch"] or {}
    groups: dict[str, list[str]] = {}
    for name in names:
        if (demangle(name) or "").partition("::")[0] in _TORCH_NAMESPACES:
            owner = f"torch {torch.get('version')} does not export"
        elif re.match("_?Py", name):
            owner = f"Python {environment['python']['version']} does not export"
        else:
            owner = "no library here exports"
        groups.setdefault(owner, []).append(name)
    for owner, group in groups.items():
        yield f"needs {_count_symbols(group)} that {owner}: {_list_symbols(group)}"


def _count_symbols(names: t.Sequence[str]) -> str:
    return "a symbol" if len(names) == 1 else f"{len(names)} symbols"


def _list_symbols(names: t.Sequence[str]) -> str:
    descriptions = []
    for name in names[:_MAX_NAMES]:
        meaning = demangle(name)
        descriptions.append(name[:_MAX_LENGTH] + "…" * (len(name) > _MAX_LENGTH) + (f" ({meaning})" if meaning else ""))
    return ", ".join(descriptions) + (f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else "")


def demangle(name: str) -> str | None:
    """The qualified name at the start of a mangled one (Itanium C++ ABI, "Mangling"), without what it is called with.

    None where there is no such name, as in C.
    """
    start = re.match(r"_Z(T[VTIS])?(N[rVK]*[RO]?)?(St)?", name)
    if start is None:
        return None
    position, parts = start.end(), ["std"] if start.group(3) else []
    while position < len(name):
        length = re.compile(r"[1-9]\d*").match(name, position)
        if length:
            position = length.end() + int(length.group())
            parts.append(name[length.end() : position])
            if not start.group(2):
                break
        else:
            if parts and re.compile("[CD][0-5]").match(name, position):  # constructor or destructor of the last one
                parts.append("~" * (name[position] == "D") + parts[-1])
            break
    return "::".join(parts) or None


def _judge_abi(facts: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> t.Iterator[Finding]:
    abi, torch = facts["cxx11_abi"], environment["torch"] or {}
    if abi is None or torch.get("cxx11_abi") in (None, abi):
        return
    label = re.search("cxx11abi(TRUE|FALSE)", facts["filename"], re.IGNORECASE)
    contradiction = (
        f" although its name says {label.group(1)}" if label and (label.group(1).upper() == "TRUE") != abi else ""
    )
    words = {True: "new", False: "old"}
    torch_abi = words[torch["cxx11_abi"]]
    yield Finding(
        DOES_NOT_FIT,
        f"was built with the {words[abi]} C++ ABI{contradiction}; torch {torch['version']} was built with the {torch_abi} one",
    )


def _version_key(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
