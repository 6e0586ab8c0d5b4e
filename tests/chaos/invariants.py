# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold whatever goes wrong. Each check returns what it found broken, in words."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from events import FILL, SITE, WHEELS
from rounds import FIND_LINKS, PIP_CACHE, SITE_PACKAGES
from world import NODES, SLURM_STAGE, STAGE, World

SOMEBODYS = "somebodys.chaos"  # in the name of each file that nobody may touch
PIP_CONF = "# somebody's\n[global]\ntimeout = 7\n"

#: On a node: what Ansible, ssh and Slurm write.
_OF_OTHERS = re.compile(
    r"root/\.ansible(/.*)?|root/\.ssh(/known_hosts)?|run(/.*)?|var/(log|spool|lib|run|local)(/slurm.*|/munge.*)?|var/run(/.*)?|var/log/(last|b|w)(log|tmp)"
    r"|\.old|\.shares|dev|proc|sys|tmp|share|etc/(munge|slurm|hosts).*"
)
#: What we write, where we may; by a store that has something.
_OF_STORES = {
    SITE_PACKAGES: re.compile(rf"{re.escape(SITE)}/(flash_attn|einops)[^/]*(/.*)?"),
    FIND_LINKS: re.compile(
        r"opt/venv/share(/airgap\.torch_extensions(/wheels(/(flash_attn|einops)-[^/]+\.whl|/flash-attn\.json)?)?)?"
    ),
    PIP_CACHE: re.compile(
        r"root/\.cache/pip(/wheels(/[0-9a-f]+){0,4}(/flash_attn[^/]*\.whl|/origin\.json|/airgap\.torch_extensions\.json)?)?"
    ),
}
_IN_CACHE = re.compile(
    r"(wheels|requirements|answers|api|facts|locks)|wheels/[0-9a-f]{16}(/(flash_attn-[^/]+\.whl(\.sha256)?|\.[^/]+\.lock))?"
    r"|requirements/([^/.][^/]*\.whl(\.sha256)?|\.?[^/]*\.lock)|answers/[0-9a-f]+\.(json|lock)|api/[0-9a-f]+\.(answer|lock)|api/[0-9a-f]+\.waiting\.lock"
    r"|facts/[^/.][^/]*\.json|locks/.*|[^/]*\.lock"
)


class Entry(NamedTuple):
    kind: int
    mode: int
    uid: int
    size: int
    mtime: int
    content: str


def manifest(folder: Path) -> dict[str, Entry]:
    """All that is in a folder, by path."""
    return dict(_walk(str(folder), ""))


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, Entry]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = prefix + entry.name
        try:
            status = entry.stat(follow_symlinks=False)
            content = ""
            if stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(Path(entry.path).read_bytes()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(entry.path)
        except OSError:
            continue  # gone meanwhile
        is_folder = stat.S_ISDIR(status.st_mode)
        size, mtime = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
        yield path, Entry(stat.S_IFMT(status.st_mode), status.st_mode, status.st_uid, size, mtime, content)
        if is_folder:
            yield from _walk(entry.path, path + "/")


def version_there(world: World, node: str) -> tuple[str | None, list[str]]:
    """The version of flash-attn in the environment of a node, and what is broken about it."""
    site = world.written(node) / SITE
    problems: list[str] = []
    versions = {}
    for name, pattern in (("flash_attn", "flash_attn-*.dist-info"), ("einops", "einops-*.dist-info")):
        infos = [path for path in site.glob(pattern) if path.is_dir()]
        if len(infos) > 1:
            problems.append(f"{node}: {name} is there more than once: {[path.name for path in infos]}")
        if not infos and (site / name / "__init__.py").is_file():
            problems.append(f"{node}: {name} is there without metadata")
        for info in infos:
            versions[name] = info.name.removesuffix(".dist-info").split("-")[1].split("+")[0]
            problems += _check_distribution(world, node, site, info, versions[name])
    return versions.get("flash_attn"), problems


def _check_distribution(world: World, node: str, site: Path, info: Path, version: str) -> Iterator[str]:
    name = info.name.split("-")[0]
    wheel = world.wheel(node, version) if name == "flash_attn" else f"{name}-{version}-py3-none-any.whl"
    wanted = world.published.get(wheel)
    if wanted is None:
        yield f"{node}: {info.name} was never published"
        return
    for path, digest in wanted.items():
        if path and not path.endswith((".dist-info/RECORD", "/")) and _sha256(site / path) != digest:
            yield f"{node}: {path} of {info.name} is missing or has other bytes than the wheel"
    try:
        rows = list(csv.reader((info / "RECORD").read_text().splitlines()))
    except OSError as exc:
        yield f"{node}: {info.name} has no RECORD: {exc}"
        return
    recorded = {row[0] for row in rows if row}
    for row in rows:
        if len(row) > 1 and row[1] and _record_hash(site / row[0]) != row[1]:
            yield f"{node}: {row[0]} is not what RECORD of {info.name} says"
    for folder in (info, site / name):
        for file in folder.rglob("*"):
            relative = str(file.relative_to(site))
            if file.is_file() and relative not in recorded and "__pycache__" not in relative:
                yield f"{node}: {relative} is in no RECORD"


def check_store(world: World, node: str, mode: str, version: str) -> list[str]:
    """That what a mode other than install keeps on a node is the wheel of a version, and no other."""
    disk, wheel = world.written(node), world.wheel(node, version)
    digest = world.published[wheel][""]
    if mode == PIP_CACHE:
        found = [path for path in disk.glob(f"root/.cache/pip/wheels/*/*/*/*/{wheel}") if _sha256(path) == digest]
        return [] if len(found) == 1 else [f"{node}: pip's cache does not hold {wheel} once, whole"]
    found = list(disk.glob(f"{WHEELS}/flash_attn-*"))
    problems = []
    if [_sha256(path) for path in found] != [digest]:
        problems.append(
            f"{node}: the folder of wheels does not hold {wheel} alone, whole: {[path.name for path in found]}"
        )
    for path in disk.glob(f"{WHEELS}/einops-*"):
        if _sha256(path) != world.published[path.name][""]:
            problems.append(f"{node}: {path.name} in the folder of wheels has wrong bytes")
    text = (disk / "opt/venv/pip.conf").read_text()
    if not text.startswith(PIP_CONF) or f"find-links = /{WHEELS}" not in text:
        problems.append(f"{node}: pip.conf is {text!r}")
    return problems


def left_on_node(
    world: World, node: str, before: Mapping[str, Entry], stores: Collection[str], is_kept: bool
) -> list[str]:
    """What is on a node and was not, or is not as it was, and is nothing that we are to leave there.

    :param is_kept: whether an operator has wheels kept there
    """
    allowed = [_OF_STORES[store] for store in stores]
    stage = (SLURM_STAGE if node not in NODES else STAGE.format(node)).lstrip("/")
    if is_kept:
        allowed.append(re.compile(rf"{re.escape(stage)}(/[^/.][^/]*\.whl)?"))
    folders = {
        "root/.cache",
        "opt",
        "opt/venv",
        "opt/venv/lib",
        "opt/venv/lib/python3.11",
        SITE,
        "var",
        "var/local",
        "root",
        "etc",
        "home",
    }
    now = manifest(world.written(node))
    problems = []
    for path, entry in now.items():
        if (
            _OF_OTHERS.fullmatch(path)
            or path in (FILL, "opt/venv/pip.conf")
            or any(rule.fullmatch(path) for rule in allowed)
        ):
            continue
        if path in folders and stat.S_ISDIR(entry.kind):
            continue
        if path not in before:
            is_gone = stat.S_ISCHR(entry.kind) or stat.S_ISCHR(entry.mode)
            if not (is_gone and _is_ours(path)):
                problems.append(f"{node}: left behind: /{path}" if not is_gone else f"{node}: removed: /{path}")
        elif before[path] != entry:
            problems.append(f"{node}: changed: /{path}: {before[path]} {entry}")
    gone = [path for path in before if path not in now and not _OF_OTHERS.fullmatch(path)]
    problems += [f"{node}: removed: /{path}" for path in gone]
    if not (world.written(node) / "opt/venv/pip.conf").read_text().startswith(PIP_CONF):
        problems.append(f"{node}: somebody's pip.conf was changed")
    return problems


def _is_ours(path: str) -> bool:
    """Whether what was removed in the layer above is ours: it lies on no layer below."""
    return any(rule.fullmatch(path) for rule in _OF_STORES.values())


def left_in_tmp(world: World, node: str) -> list[str]:
    names = os.listdir(world.root(node) / "tmp")
    strange = [
        name for name in names if not re.fullmatch(r"ansible_.*_payload_.*", name)
    ]  # of killed modules, and Ansible's
    return [f"{node}: left behind: /tmp/{name}" for name in strange]


def left_on_share(world: World) -> list[str]:
    names = [str(path.relative_to(world.shared())) for path in world.shared().rglob("*") if path.is_file()]
    rule = re.compile(rf"airgap\.torch_extensions/[^/]+/[^/.][^/]*\.whl|{SOMEBODYS}")
    return [f"left behind on the share: {name}" for name in names if not rule.fullmatch(name)]


def left_on_control_node(world: World, before: Mapping[str, Entry]) -> list[str]:
    """Temporary names in the operator's folders, and what was somebody's."""
    problems = []
    for name in ("cache", "other-cache"):
        for path in manifest(world.control / name):
            if not _IN_CACHE.fullmatch(path) and path != FILL:
                problems.append(f"left behind in the cache: {path}")
    for path in manifest(world.control / "carried"):
        if not re.fullmatch(rf"[^/]+\.lock\.yml|[^/]+\.bundle(/[^.].*)?|{SOMEBODYS}", path):
            problems.append(f"left behind beside locks and bundles: {path}")
    # what pip and Ansible leave there when they are killed is theirs
    for path in os.listdir(world.control / "tmp"):
        if not re.match(r"pip-|ansible", path):
            problems.append(f"left behind in TMPDIR: {path}")
    now = manifest(world.control)
    problems += [f"changed on the control node: {path}" for path, entry in before.items() if now.get(path) != entry]
    problems += [f"left behind on the server: {file.name}" for file in world.pulled().glob(".*")]
    return problems


def wrong_in_cache(world: World, names: Collection[str]) -> list[str]:
    """Files in the control node's cache that a run has just used and that have wrong bytes."""
    found = [path for path in world.cache.glob("wheels/*/*.whl") if path.name in names]
    return [
        f"{path.name} in the cache has wrong bytes" for path in found if _sha256(path) != world.published[path.name][""]
    ]


def check_bundle(world: World, name: str) -> list[str]:
    """That a bundle is whole: its own sums, and the bytes that were published."""
    folder = world.control / "carried" / name
    problems = []
    try:
        lines = (folder / "SHA256SUMS").read_text().splitlines()
    except OSError as exc:
        return [f"{name} has no sums: {exc}"]
    summed = {line.split("  ", 1)[1]: line.split()[0] for line in lines}
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    if set(summed) != files:
        problems.append(f"{name} has {sorted(files)}, and sums of {sorted(summed)}")
    for path, digest in summed.items():
        published = world.published.get(Path(path).name, {}).get("", digest)
        if not _sha256(folder / path) == digest == published:
            problems.append(f"{path} in {name} has wrong bytes")
    return problems


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _record_hash(path: Path) -> str:
    digest = _sha256(path)
    return "sha256=" + base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")
