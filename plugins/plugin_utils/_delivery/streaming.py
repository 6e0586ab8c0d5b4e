# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Bring files to a node over the standard input of commands, so that they are its user's from the first byte.

What Ansible's copy does costs five round trips, two more copies of the file on the node, and a part of it in the login
user's folder when the connection is cut. Here it is one command, which writes to where the last one has stopped: what a
lost run has brought is kept for the next one.
"""

from __future__ import annotations

import os
import re
import shlex
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.staging import part_name

_BLOCK = 1 << 16  # bytes, of dd(1); the size of a pipe

# Shells of the user may print what they like around it, and a terminal ends lines in its own way.
_TOLD = re.compile(r"^torch_extension:(\w+):(.*?)\r?$", re.MULTILINE)
# A folder that is there already stays as it is; in one that others may write to, nobody knows whose the files are.
ITS_USERS_ALONE = (
    '[ -n "$(find . -prune -user "$(id -u)" ! -perm -020 ! -perm -002)" ] ||'
    " { echo it belongs to another user, or others may write to it >&2; exit 1; };"
)
#: How a command tells something that is not for people: a kind, a colon and the rest of the line after it.
TELL = "torch_extension:"
_BEGIN = f"echo {TELL}begin:"  # a line for what was printed before it, and did not end


class File(t.NamedTuple):
    """A file of the control node that a node shall have."""

    path: str
    sha256: str | None  # in hexadecimal; without it nothing tells whether what is there is a part of it

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def size(self) -> int:
        """Bytes."""
        return os.path.getsize(self.path)

    @property
    def part(self) -> str:
        return part_name(self.name, self.sha256)


class Done(t.NamedTuple):
    """What has become of a command on the node."""

    status: int
    out: str
    err: str


class Staging(t.NamedTuple):
    """The folder on the node, and what is in it."""

    folder: str  # absolute
    free: int  # bytes
    sizes: dict[str, int]  # of the files that were asked for and are there, whole or in part
    told: dict[str, str]  # what else the command has told, by kind (:data:`TELL`)
    knob: str = "torch_extension_stage_dir"  # what names the folder
    is_shared: bool = False  # whether other nodes read there

    def lacks(self, files: t.Iterable[File]) -> list[File]:
        """Those of the files that are not there in their whole length, or of which nothing tells whether that is them."""
        return [file for file in files if not file.sha256 or self.sizes.get(file.name) != file.size]


#: Runs a command line of sh(1) on the node, with nothing of interest on its standard input.
Execute = t.Callable[[str], Done]

#: The same with a file of the control node on it, from some byte on.
Stream = t.Callable[[str, str, int], Done]


class NotStreamedError(Exception):
    """The connection does not give the file to the command."""


class NoFolderError(Exception):
    """A command did not get into the folder. What it said is the argument."""


def prepare(files: t.Sequence[File], folder: str, execute: Execute) -> Staging | None:
    """Make a folder on the node that its user alone may write to, and look at what is there.

    :param folder: as the operator names it; ``~`` is the home of the user on the node
    :returns: None if the command did not get there, say for a sudo that wants a terminal
    :raises TorchExtensionError: if the folder cannot be used
    """
    place = expandable(folder)
    try:
        return look(files, f"mkdir -p {place} && cd {place} || exit 1; {ITS_USERS_ALONE}", execute)
    except NoFolderError as exc:
        raise TorchExtensionError(
            f"The folder {folder} on the node cannot be made or used ({exc}). Nothing was changed. Set"
            " torch_extension_stage_dir."
        ) from exc


def look(files: t.Iterable[File], enter: str, execute: Execute) -> Staging | None:
    """Enter a folder and look at what is there.

    :param enter: sh(1) that goes there, or makes the shell exit with a word on its standard error
    :returns: None if the command did not get to the node
    :raises NoFolderError: if it did not get into the folder
    """
    looks = [
        f"[ ! -f {word} ] || echo {TELL}size:$(wc -c < {word}):{word}"
        for word in (shlex.quote(name) for file in files for name in (file.name, file.part))
    ]
    done = execute(
        f'umask 077; {_BEGIN}; {enter} printf "{TELL}folder:%s\\n" "$(pwd -P)"; '
        f'echo "{TELL}free:$(df -Pk . | tail -n 1)"; ' + "; ".join(looks)
    )
    told = _TOLD.findall(done.out)
    if not told:
        return None
    facts = dict(told)
    if "folder" not in facts:
        raise NoFolderError(last_line(done))
    sizes = (value.partition(":") for kind, value in told if kind == "size")
    kib = facts.get("free", "").split()
    free = int(kib[3]) * 1024 if len(kib) > 3 and kib[3].isdigit() else 1 << 62  # where df does not tell, the disk will
    return Staging(facts["folder"], free, {name: int(size) for size, _colon, name in sizes}, facts)


def send(files: t.Sequence[File], staging: Staging, stream: Stream, execute: Execute) -> None:
    """Bring what is not there yet into the prepared folder.

    :raises TorchExtensionError: if there is no room for it, or it cannot be written; nothing of it is left then
    :raises NotStreamedError: if it has to be brought in another way
    """
    missing = {file: begin for file in files for begin in [_missing(file, staging)] if begin is not None}
    wanted = sum(file.size - begin for file, begin in missing.items())
    if wanted > staging.free:
        _discard_ours(files, staging, execute)
        raise TorchExtensionError(
            f"{staging.folder} on the node has {staging.free >> 20} MiB free, wanted are {-(-wanted >> 20)} MiB. Nothing was"
            f" changed. Make room, or set {staging.knob}."
        )
    for file, begin in missing.items():
        folder, part, name = map(shlex.quote, (staging.folder, file.part, file.name))
        # Each node checks what it installs. What nobody checks before it gets its name would be refused by all, for ever.
        check = f"printf '{file.sha256}  %s\\n' {part} | sha256sum -c >&2 &&" if staging.is_shared else ""
        done = stream(
            # of a longer part nothing stays: dd cuts off what lies behind the byte that it seeks
            f"{_BEGIN}; cd {folder} && umask 077 && dd of={part} bs={_BLOCK} seek={begin // _BLOCK} || exit 1; "
            f'echo "{TELL}size:$(wc -c < {part})"; [ "$(wc -c < {part})" -ne {file.size} ] || {{ {check} mv -f {part} {name}; }}',
            file.path,
            begin,
        )
        if done.status != 0:
            _discard_ours(files, staging, execute)
            raise TorchExtensionError(
                f"{file.name} cannot be written to {staging.folder} on the node: {last_line(done)}. Nothing was changed."
                f" Make room there, or set {staging.knob}."
            )
        if dict(_TOLD.findall(done.out)).get("size", "").strip() != str(file.size):
            _discard_ours([file], staging, execute)
            raise NotStreamedError


def _missing(file: File, staging: Staging) -> int | None:
    """Where to begin with a file; None if all of it is there."""
    if not staging.lacks([file]):
        return None
    there = staging.sizes.get(file.part, 0) if file.sha256 else 0
    return there // _BLOCK * _BLOCK if there <= file.size else 0


def _discard_ours(files: t.Iterable[File], staging: Staging, execute: Execute) -> None:
    """Remove what nobody else can have begun to read."""
    if staging.is_shared:  # what has its name may have it from another control node, a moment ago
        _remove([file.part for file in files], staging.folder, execute)
    else:
        discard(files, staging.folder, execute)


def discard(files: t.Iterable[File], folder: str, execute: Execute) -> None:
    """Remove files and their parts from a folder of the node, and the folder if nothing else is in it."""
    _remove([name for file in files for name in (file.name, file.part)], folder, execute)


def _remove(names: t.Iterable[str], folder: str, execute: Execute) -> None:
    folder = shlex.quote(folder)
    execute(f"cd {folder} && rm -f {shlex.join(names)}; cd / && rmdir {folder} 2>/dev/null")


def expandable(folder: str) -> str:
    """A path as a word of sh(1), in which only a home at its front is expanded."""
    home, slash, rest = folder.partition("/")
    if re.fullmatch(r"~[\w.-]*", home):
        return home + slash + (shlex.quote(rest) if rest else "")
    return shlex.quote(folder)


def last_line(done: Done) -> str:
    """What a command said last of what went wrong, without dd's numbers."""
    lines = [
        line.strip()
        for line in done.err.splitlines()
        if line.strip() and not re.search(r"^\d+.*(records|copied)", line)
    ]
    return lines[-1].rstrip(".") if lines else f"exit status {done.status}"
