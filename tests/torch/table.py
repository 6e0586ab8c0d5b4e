# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was found, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pairs
from pairs import Pair
from pinned import BUILDS, WHEELS, Build, Wheel

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proof_table.md"
_BEGIN, _END = "<!-- what make test-torch found -->\n", "<!-- up to here -->\n"

#: what a reason of a verdict is about, by its words
_KINDS = {
    "A": re.compile(r"was built with the (old|new) C\+\+ ABI"),
    "S": re.compile(r"needs (a symbol|\d+ symbols) that"),
    "C": re.compile(r"needs (.*which needs )?lib(cu|nv|nccl)\S+, which is nowhere"),
    "L": re.compile(r"needs (.*which needs )?(?!lib(cu|nv|nccl))lib\S+, which is nowhere"),
}
_VERDICTS = {"fits": "**fits**", "does not fit": "no", "cannot be told": "?"}
_OPENING = re.compile(r"^\w+: (/\S+: )?")  # the exception, and the scratch folder
_LONGEST = 200  # characters of a message


def written() -> str:
    """What the page says now was found."""
    return PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0]


def write(found: str) -> None:
    """Put what was found into the page."""
    before, begin, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(before + begin + found + _END + rest.partition(_END)[2])


def kinds(pair: Pair) -> str:
    """What the reasons of a verdict are about, a letter each."""
    return "".join(kind for kind, words in _KINDS.items() if any(map(words.match, pair.reasons)))


def markdown(found: Mapping[Build, Mapping[Wheel, Pair]]) -> str:
    """All pairs, and what is remarkable about some."""
    every = [pair for column in found.values() for pair in column.values()]
    return "\n".join([*_table(found), "", *_counts(every), "", *_examples(every), "", *_remarkable(every), ""])


def _table(found: Mapping[Build, Mapping[Wheel, Pair]]) -> Iterator[str]:
    yield " | ".join(["| torch", *map(_title, BUILDS)]) + " |"
    yield "|---" * (len(BUILDS) + 1) + "|"
    for wheel in WHEELS:
        yield " | ".join([f"| {wheel.name}", *(_cell(found[build][wheel]) for build in BUILDS)]) + " |"


def _title(build: Build) -> str:
    torch = pairs.environment(build)["torch"]
    beside = "<br>and CUDA 12's runtime" * bool(build.beside)
    return f"{build.version}<br>CUDA {torch['cuda']}, {'new' if torch['cxx11_abi'] else 'old'} ABI{beside}"


def _cell(pair: Pair) -> str:
    marks = "".join("✓" if well else "✗" for well in (pair.loads, pair.imports))
    return f"{_VERDICTS[pair.verdict]} {marks} {kinds(pair)}".rstrip()


def _counts(every: list[Pair]) -> Iterator[str]:
    yield "| verdict | pairs | load | are imported |"
    yield "|---|---|---|---|"
    for verdict in _VERDICTS:
        those = [pair for pair in every if pair.verdict == verdict]
        loaded, imported = sum(pair.loads for pair in those), sum(pair.imports for pair in those)
        yield f"| {verdict} | {len(those)} | {loaded} | {imported} |"


def _examples(every: Iterable[Pair]) -> Iterator[str]:
    """The first pair for each kind of reason, one for which there is no other if possible."""
    yield "| | for example | the verdict's words | the loader's |"
    yield "|---|---|---|---|"
    ordered = sorted(every, key=lambda pair: len(kinds(pair)))  # the sort is stable
    for kind, words in _KINDS.items():
        pair = next((pair for pair in ordered if kind in kinds(pair)), None)
        if pair is not None:
            yield f"| {kind} | {pair.wheel.name}, torch {pair.build.version} | {_said(pair, words)} |"


def _said(pair: Pair, words: re.Pattern[str]) -> str:
    """What the verdict says of one reason, and what the loader says first."""
    reason = next(filter(words.match, pair.reasons))
    complaint = _OPENING.sub("", next(iter(pair.complaints.values())))
    return f"{_code(_short(reason))} | {_code(_short(complaint))}"


def _remarkable(every: list[Pair]) -> Iterator[str]:
    yield "What fits, and its own Python code refuses:"
    yield ""
    yield from _list(pair for pair in every if pair.verdict == "fits" and not pair.imports)
    yield ""
    yield "What cannot be told:"
    yield ""
    yield from _list(pair for pair in every if pair.verdict == "cannot be told")


def _list(those: Iterable[Pair]) -> Iterator[str]:
    lines = [
        f"- {pair.wheel.name}, torch {pair.build.name}: {_code(_short(pair.failure or '; '.join(pair.reasons)))}"
        for pair in those
    ]
    yield from lines or ["- none"]


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"
