"""coverage.py: says for how many environments flash-attn has a wheel that is known, and what remains, as Markdown.

An environment is a build of torch for CUDA with one of its Pythons on a machine (tests/listings/torch_builds.yml), the node has the
glibc of Ubuntu 24.04. The wheels are those of tests/listings. The collection's own code judges and selects.
"""

from __future__ import annotations

import collections
import enum
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging, labels, selection
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.places import PLACES
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    INDEX,
    KNOWN,
    RELEASE,
    Source,
    expand_source,
    parse_source,
)

LISTINGS = Path(__file__).resolve().parents[1] / "listings"
PACKAGE = "flash-attn"
GLIBC = "2.39"
MACHINES = ("x86_64", "aarch64")
FROM_2_9 = Version("2.9")

#: Which wheels for another torch the proof finds to fit, by torch of the wheel: no binary is here to be proven. Measured with the
#: tests of flash-attn, causal-conv1d and mamba-ssm by unslothai/unsloth (studio/backend/utils/wheel_utils.py, #7495), which found
#: that 2.9 does not serve 2.10, nor 2.10 serve 2.13. docs/proof_table.md has the same of torchrl and torchao.
PROVEN = {"2.10": ("2.11", "2.12")}


class Environment(NamedTuple):
    torch: str  # major.minor
    machine: str
    cuda: str
    python: str
    is_counted: bool  # it is one of the 220
    facts: Mapping[str, Any]  # as torch_info returns them


class Ground(enum.Enum):
    """Why a wheel of a source serves an environment."""

    EXACT = "built for its torch"
    PROVEN = "built for another torch, and proven"


class Found(NamedTuple):
    """Who serves an environment first, when all places that the project trusts are asked."""

    environment: Environment
    place: str | None  # None: nobody
    ground: Ground | None


def load_builds() -> dict[str, dict[str, Any]]:
    """The builds of torch, by its minor version."""
    builds: dict[str, dict[str, Any]] = yaml.safe_load((LISTINGS / "torch_builds.yml").read_text())
    return builds


def load_listing(place: str) -> list[tuple[str, str]]:
    """The page (empty where a place has none) and the name of each wheel that a place has, the newest version last."""
    lines = (LISTINGS / f"{place}.txt").read_text().splitlines()
    pairs = (line.rpartition("\t") for line in lines if line and not line.startswith("#"))
    return [(page, filename) for page, _tab, filename in pairs]


def environments() -> Iterator[Environment]:
    """All environments that are confirmed."""
    for torch, build in load_builds().items():
        for machine in MACHINES:
            for cuda, abi in build[machine].items():
                for python in build.get(f"pythons_of_{machine}", build["pythons"]):
                    facts = _facts(f"{build['version']}+cu{cuda.replace('.', '')}", machine, cuda, python, abi)
                    is_counted = cuda in build["counted"][machine]
                    yield Environment(torch, machine, cuda, python, is_counted, facts)


def _facts(torch: str, machine: str, cuda: str, python: str, abi: bool | None) -> dict[str, Any]:
    tag = f"cp{python.replace('.', '')}"
    return {
        "python": {"version": f"{python}.0", "tag": tag, "abi": tag},
        "platform": {"system": "linux", "machine": machine, "libc": {"name": "glibc", "version": GLIBC}},
        "torch": {"version": torch, "cuda": cuda, "hip": None, "cxx11_abi": abi},
        "variables": {},
    }


@functools.cache
def list_assets(source: Source) -> list[judging.Asset]:
    """The wheels of the package that a source has; of those with one label and the same tags the newest is enough."""
    page = source.location.removeprefix(f"{PLACES[source.text].url}/") if source.kind == INDEX else ""
    assets = {}
    for listed_on, filename in load_listing(source.text):
        if listed_on == page and judging.is_named_after(filename, PACKAGE):
            built_for = filename.partition("+")[2]
            assets[built_for] = judging.Asset(filename, f"{source.location}{filename}", address=source.location)
    return list(assets.values())


def serve(source: Source, environment: Environment) -> Ground | None:
    """Whether a source has a wheel of any version for an environment."""
    judgement = judging.judge_wheels(PACKAGE, list_assets(source), environment.facts, source.grammar)
    selected = selection.select_wheels(judgement.candidates, SpecifierSet(), environment.facts)
    if selected.fitting:
        return Ground.EXACT
    built_for = [wheel.label.built_for for wheel in selected.provable]
    if any(isinstance(one, labels.Torch) and environment.torch in PROVEN.get(one.version, ()) for one in built_for):
        return Ground.PROVEN
    return None


def find_first(environment: Environment) -> Found:
    """Who serves an environment. Other places count only where the release has nothing, not even for another torch."""
    parts = expand_source(parse_source(KNOWN), PACKAGE, environment.facts, {})
    for part in sorted(parts, key=lambda part: part.kind != RELEASE):
        ground = serve(part, environment)
        if ground == Ground.EXACT or (ground and part.kind == RELEASE):
            return Found(environment, part.text, ground)
    return Found(environment, None, None)


def find_all() -> list[Found]:
    """Who serves each environment."""
    # each name is parsed once, and not once for each environment
    with mock.patch.object(labels, "parse_filename", functools.cache(labels.parse_filename)):
        return [find_first(environment) for environment in environments()]


def is_recent(one: Found) -> bool:
    return Version(one.environment.torch) >= FROM_2_9


def report() -> Iterator[str]:
    """The lines of the report."""
    found = find_all()
    yield from table(found)
    yield ""
    yield "For these of all known environments nobody has a wheel:"
    yield ""
    yield from remainder(found)


def table(found: list[Found]) -> Iterator[str]:
    """How many environments are served, each row by more sources than the one before."""
    counted = [one for one in found if one.environment.is_counted]
    columns = [counted, list(filter(is_recent, counted)), found, list(filter(is_recent, found))]
    titles = ["{} counted", "{} counted, torch 2.9 or later", "{} known", "{} known, torch 2.9 or later"]
    yield _row("served by", [title.format(len(column)) for title, column in zip(titles, columns, strict=True)])
    yield "|---" * 5 + "|"
    served: set[tuple[str | None, Ground | None]] = {(RELEASE, Ground.EXACT)}
    yield _shares("`release`, `match: exact`", columns, served)
    served.add((RELEASE, Ground.PROVEN))
    yield _shares("`release`, `match: proven`", columns, served)
    places = [
        name for name, place in PLACES.items() if place.is_trusted and PACKAGE in place.packages and name != RELEASE
    ]
    for name in places:
        served.add((name, Ground.EXACT))
        yield _shares(f"and `{name}`" + (", which makes `known`" if name == places[-1] else ""), columns, served)
    yield _shares("nobody", columns, {(None, None)})


def _shares(title: str, columns: list[list[Found]], served: set[tuple[str | None, Ground | None]]) -> str:
    counts = [(sum((one.place, one.ground) in served for one in column), len(column)) for column in columns]
    return _row(title, [f"{count} ({round(100 * count / total)} %)" for count, total in counts])


def _row(title: str, cells: list[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def remainder(found: list[Found]) -> Iterator[str]:
    """The environments that nobody serves, those alike in one line."""
    pythons: dict[tuple[str, str, str], list[str]] = collections.defaultdict(list)
    for environment in (one.environment for one in found if one.place is None):
        pythons[environment.torch, environment.machine, environment.cuda].append(environment.python)
    alike: dict[tuple[str, str, tuple[str, ...]], list[str]] = collections.defaultdict(list)
    for (torch, machine, cuda), of_cuda in pythons.items():
        alike[torch, machine, tuple(of_cuda)].append(cuda)
    for (torch, machine, versions), cudas in alike.items():
        yield f"- torch {torch}, {machine}, CUDA {', '.join(cudas)}: Python {', '.join(versions)}"


if __name__ == "__main__":
    print(*report(), sep="\n")
