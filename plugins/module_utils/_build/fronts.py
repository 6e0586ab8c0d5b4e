# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The front of a compiler: what stands in its place, changes its arguments and becomes it.

A file for itself: it is copied into the folder of a build and run from there, for each file that is compiled. It reads
``fronts.json`` beside it::

    {"compiled": "…/compiled.log",                    # where it notes what it compiles
     "standard": "c++20",                             # instead of an older one, or null
     "maps": [["/home/me/…/sources", "/build"]],      # paths that compilers write into what they make; the last that fits counts
     "archs": ["90", "120+PTX"],                      # of nvcc
     "repeatable": true,                              # whether nvcc has the options for it
     "host": "…/bin/host/g++",                        # the front of the C++ compiler that nvcc calls
     "programs": {"nvcc": "…/bin/nvcc", "cicc": "…/nvvm/bin/cicc", "c++": "/usr/bin/g++", "host": "/usr/bin/g++", "cc": "/usr/bin/gcc"}}

What two folders make of the same differs unless nvcc gets the same names: it hashes the path of a source into symbols
(``cudafe++ --orig_src_path_name``), writes it beside PTX (``fatbinary --ident``), and with ``-lineinfo`` what ``cicc`` and the marks of the
preprocessor say. Intermediate files have the number of the process in their names unless they lie beside the object, and some symbols
are random. Tried with nvcc 13.0.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

# Importing typing takes longer than all the rest, for each file that is compiled.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing as t

_SOURCE = re.compile(r"\.(c|cc|cp|cpp|cxx|c\+\+|C|cu)$")
_STANDARD = re.compile(r"(?:c|gnu)\+\+(\w\w)$")
_YEARS = {"0x": 11, "1y": 14, "1z": 17, "2a": 20, "2b": 23, "2c": 26, "98": 3}
_ARCH_OPTIONS = ("-arch", "--gpu-architecture", "-code", "--gpu-code")
_GENCODE_OPTIONS = ("-gencode", "--generate-code")
_STANDARD_OPTIONS = ("-std", "--std")
_THREAD_OPTIONS = ("-t", "--threads")
_HOST_OPTIONS = ("-ccbin", "--compiler-bindir")
_QUESTIONS = re.compile(r"-V|-h|-dryrun|--dryrun|--version|--help|--?(list-gpu|code-ls|arch-ls).*")


def change_cxx(arguments: list[str], settings: t.Mapping[str, t.Any]) -> list[str]:
    """The arguments for a C or C++ compiler."""
    changed = [_raise_standard(argument, "-std=", settings["standard"]) for argument in arguments]
    if find_sources(arguments):
        changed += [f"-frandom-seed={_seed(arguments, settings)}"]
        changed += [_map_argument(*pair) for pair in settings["maps"]]
    return changed


def change_part(arguments: list[str], settings: t.Mapping[str, t.Any]) -> list[str]:
    """The arguments for a part of nvcc: a name for the path of the source."""
    changed = []
    for before, argument in zip(["", *arguments], arguments):
        option, equals, value = argument.partition("=")
        if before == "--orig_src_path_name":
            argument = map_path(argument, settings["maps"])
        elif option == "--ident" and equals:
            argument = f"--ident={map_path(value, settings['maps'])}"
        changed.append(argument)
    return changed


def change_nvcc(arguments: list[str], settings: t.Mapping[str, t.Any]) -> list[str]:
    """The arguments for nvcc: our architectures instead of those that it was called with."""
    if not arguments or any(_QUESTIONS.match(argument) for argument in arguments):
        return arguments
    codes: list[str] = []
    changed: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        if (
            name in _ARCH_OPTIONS + _GENCODE_OPTIONS + _STANDARD_OPTIONS + _THREAD_OPTIONS + _HOST_OPTIONS
            and not equals
        ):
            value = left.pop(0) if left else ""
        if name in _GENCODE_OPTIONS:
            codes += _parse_gencode(value)
        elif name in _ARCH_OPTIONS:
            codes += _parse_arch(value)
        elif name in _STANDARD_OPTIONS:
            changed.append(_raise_standard(f"-std={value}", "-std=", settings["standard"]))
        elif name not in _THREAD_OPTIONS + _HOST_OPTIONS:
            changed.append(argument)
    changed.append(f"-ccbin={settings['host']}")
    if settings["repeatable"] and find_sources(arguments):
        changed += ["-objtemp", f"-frandom-seed={_seed(arguments, settings)}"]
    for code in choose_codes(codes, settings["archs"]):
        virtual = re.sub("^(sm|lto)_", "compute_", code)
        changed += ["-gencode", f"arch={virtual},code={code}"]
    return changed


def choose_codes(wanted: list[str], archs: t.Sequence[str]) -> list[str]:
    """What to compile for: of each architecture of ours the forms that were asked for (sm_90a), or else itself.

    :param wanted: what nvcc was asked for: sm_90, sm_90a, compute_90, lto_90
    :param archs: ours: "90", "90a", "120+PTX"
    """
    codes: list[str] = []
    for arch in archs:
        number, _plus, ptx = arch.partition("+")
        own = [code for code in wanted if not code.startswith("compute_") and _serves(code.partition("_")[2], number)]
        codes += own or [f"sm_{number}"]
        if ptx:
            codes.append(f"compute_{number}")
    return list(dict.fromkeys(codes))


def _serves(form: str, number: str) -> bool:
    """Whether a form of an architecture, such as 90a or 100f, is one of ours."""
    if form in (number, f"{number}a", f"{number}f"):
        return True
    family = form.endswith("f") and form[:-1].isdigit() and number.isdigit()  # 100f runs on 103, too
    return bool(family) and form[:-2] == number[:-1] and int(form[:-1]) <= int(number)


def _parse_gencode(value: str) -> list[str]:
    """From ``arch=compute_90,code=[sm_90,compute_90]`` sm_90 and compute_90."""
    _arch, _code, codes = value.replace('"', "").replace("'", "").partition("code=")
    return [code.strip() for code in codes.strip("[] ").split(",") if code.strip()]


def _parse_arch(value: str) -> list[str]:
    return [code for code in value.split(",") if re.match(r"(sm|compute|lto)_\d", code)]


def _raise_standard(argument: str, option: str, standard: str | None) -> str:
    if not standard or not argument.startswith(option):
        return argument
    asked, least = _STANDARD.match(argument[len(option) :]), _STANDARD.match(standard)
    if asked is None or least is None or _year(asked[1]) >= _year(least[1]):
        return argument
    return f"{option}{argument[len(option) :].partition('+')[0]}++{least[1]}"


def _year(digits: str) -> int:
    return _YEARS.get(digits) or int(digits) if digits.isdigit() or digits in _YEARS else 99


def _map_argument(path: str, name: str) -> str:
    return f"-ffile-prefix-map={path}={name}"


def map_path(path: str, maps: t.Sequence[t.Sequence[str]]) -> str:
    """The name for a path, as the compiler's own option gives it."""
    for start, name in reversed(maps):
        if path.startswith(start):
            return name + path[len(start) :]
    return path


def map_marks(text: bytes, maps: t.Sequence[t.Sequence[str]]) -> bytes:
    """What a preprocessor has written, with names for the paths in the marks of lines (``# 1 "/home/…/a.cu"``)."""
    pairs = [(os.fsencode(start), os.fsencode(name)) for start, name in reversed(maps)]
    starts = b"|".join(re.escape(start) for start, _name in pairs)
    names = dict(reversed(pairs))
    return re.sub(rb'^(# \d+ ")(' + starts + b")", lambda mark: mark[1] + names[mark[2]], text, flags=re.MULTILINE)


def _seed(arguments: t.Sequence[str], settings: t.Mapping[str, t.Any]) -> str:
    """What is the same in each folder, and another text for each object."""
    outputs = [after for before, after in zip(arguments, arguments[1:]) if before == "-o"]
    path = os.path.abspath((outputs or find_sources(arguments))[-1])
    return map_path(path, settings["maps"])


def find_sources(arguments: t.Sequence[str]) -> list[str]:
    """The files that are compiled."""
    return [argument for argument in arguments if _SOURCE.search(argument) and not argument.startswith("-")]


def _preprocess(command: list[str], settings: t.Mapping[str, t.Any]) -> int:
    """Run the preprocessor for nvcc, and give names to the paths in what it has written."""
    status = subprocess.call(command)  # pylint: disable=ansible-bad-function # nor is any of Ansible here
    path = command[command.index("-o") + 1]
    if status == 0:
        with open(path, "rb") as file:
            text = file.read()
        with open(path, "wb") as file:
            file.write(map_marks(text, settings["maps"]))
    return status


_CHANGES = {
    "nvcc": change_nvcc,
    "cudafe++": change_part,
    "cicc": change_part,
    "fatbinary": change_part,
    "c++": change_cxx,
    "cc": change_cxx,
    "host": change_cxx,
}


def main(program: str, arguments: list[str]) -> None:
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "fronts.json"), encoding="utf-8") as file:
        settings = json.load(file)
    real = settings["programs"][program]
    command = [real, *_CHANGES[program](arguments, settings)]
    if program == "host" and "-E" in arguments and "-o" in arguments:
        raise SystemExit(_preprocess(command, settings))
    sources = find_sources(arguments)
    if sources and program in ("nvcc", "c++", "cc"):
        with open(settings["compiled"], "a", encoding="utf-8") as log:
            log.write(f"{time.time():.2f} {program} {os.path.abspath(sources[-1])}\n")
    os.execv(real, command)  # noqa: S606 - by its full path: nvcc finds its parts beside that


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
