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

import hashlib
import os
import re
import shlex
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.staging import part_name
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust_in_shell import (
    CHECK_FOLDER,
    discard_planted,
    enter_folder,
)

_BLOCK_SIZE = 1 << 16  # bytes, of dd(1); the size of a pipe

# Shells of the user may print what they like around it, and a terminal ends lines in its own way.
_MARKED_LINE = re.compile(r"^torch_extension:(\w+):(.*?)\r?$", re.MULTILINE)
#: What a command begins a line with that is for us, and not for people: a kind, a colon and a value follow.
MARKER = "torch_extension:"
_VANISHED = f"{MARKER}vanished:"
_BEGIN_MARKER = f"echo {MARKER}begin:"  # ends a line that a shell has printed before it, without an end


class File(t.NamedTuple):
    """A file of the control node that a node is to get."""

    path: str
    sha256: str | None  # in hexadecimal; without it nothing tells whether a part on the node belongs to this file
    subfolder: str = ""  # of the folder on the node, for where it lies there; by default in that itself
    writer: str = ""  # who alone writes its part; by default whoever brings it does, and goes on with what another one has brought

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def size(self) -> int:
        """Bytes."""
        return os.path.getsize(self.path)

    @property
    def place(self) -> str:
        """Its path in the folder on the node."""
        return os.path.join(self.subfolder, self.name)

    @property
    def part(self) -> str:
        """Likewise, until it is complete."""
        owner = hashlib.sha256(f"{self.writer} {self.sha256}".encode()).hexdigest() if self.writer else self.sha256
        return os.path.join(self.subfolder, part_name(self.name, owner))


class CommandResult(t.NamedTuple):
    """The result of a command on the node."""

    status: int
    out: str
    err: str


class Staging(t.NamedTuple):
    """The folder on the node, and what is in it."""

    folder: str  # absolute
    free: int  # bytes
    sizes: dict[str, int]  # of the requested files that are there, by their places, whole or in part
    facts: dict[str, str]  # all that the command has reported, by kind (:data:`MARKER`)
    knob: str = "torch_extension_stage_dir"  # the variable that sets the folder
    is_shared: bool = False  # whether other nodes read there

    def list_missing(self, files: t.Iterable[File]) -> list[File]:
        """The files that are not there in their whole length, or whose hash is unknown, so that nothing tells one from another."""
        return [file for file in files if not file.sha256 or self.sizes.get(file.place) != file.size]


#: Runs a command line of sh(1) on the node, with nothing of interest on its standard input.
Execute = t.Callable[[str], CommandResult]

#: The same, with a file of the control node on its standard input, from some byte on.
Stream = t.Callable[[str, str, int], CommandResult]


class NotStreamedError(Exception):
    """The connection does not give the file to the command."""


class VanishedError(TorchExtensionError):
    """What was brought, or its folder, was removed meanwhile, as another run does at its end. It can be brought again."""


class NoFolderError(Exception):
    """A command did not get into the folder. The argument is its error message."""


def find_reports(output: str) -> list[tuple[str, str]]:
    """What a command has reported (:data:`MARKER`), each with its kind, amid whatever else is printed."""
    return _MARKED_LINE.findall(output)


def prepare_folder(
    files: t.Sequence[File], folder: str, execute: Execute, trusted_owners: t.Iterable[str] = ()
) -> Staging | None:
    """Make a folder on the node that only its user may write to, and look at what is there.

    :param folder: as the operator names it; ``~`` is the home of the user on the node
    :param trusted_owners: who besides the user and root may change the folders above it
    :returns: None if the command did not get there, say for a sudo that wants a terminal
    :raises TorchExtensionError: if the folder cannot be used
    """
    path = quote_path(folder)
    try:
        return inspect_folder(files, f"{enter_folder(path, trusted_owners)} {CHECK_FOLDER}", execute)
    except NoFolderError as exc:
        raise TorchExtensionError(
            f"The folder {folder} on the node cannot be made or used ({exc}). Nothing was changed. Set"
            " torch_extension_stage_dir."
        ) from exc


def inspect_folder(files: t.Iterable[File], enter: str, execute: Execute) -> Staging | None:
    """Enter a folder and look at what is there.

    :param enter: sh(1) that goes there, or makes the shell exit with a word on its standard error
    :returns: None if the command did not get to the node
    :raises NoFolderError: if it did not get into the folder
    """
    size_commands = [
        f"[ ! -f {name} ] || echo {MARKER}size:$(wc -c < {name}):{name}"
        for name in (shlex.quote(name) for file in files for name in (file.place, file.part))
    ]
    result = execute(
        f'umask 077; {_BEGIN_MARKER}; {enter} printf "{MARKER}folder:%s\\n" "$(pwd -P)"; '
        f'echo "{MARKER}free:$(df -Pk . | tail -n 1)"; ' + "; ".join(size_commands)
    )
    reports = find_reports(result.out)
    if not reports:
        return None
    facts = dict(reports)
    if "folder" not in facts:
        raise NoFolderError(last_error_line(result))
    sizes = (value.partition(":") for kind, value in reports if kind == "size")
    kib = facts.get("free", "").split()
    free = int(kib[3]) * 1024 if len(kib) > 3 and kib[3].isdigit() else 1 << 62  # where df does not tell, the disk will
    return Staging(facts["folder"], free, {name: int(size) for size, _colon, name in sizes}, facts)


def send_files(files: t.Sequence[File], staging: Staging, stream: Stream, execute: Execute) -> None:
    """Send what is missing to the prepared folder.

    :raises TorchExtensionError: if there is no room for it, or it cannot be written; nothing of it is left then
    :raises NotStreamedError: if it has to be brought in another way
    """
    missing = {file: begin for file in files for begin in [_resume_offset(file, staging)] if begin is not None}
    needed = sum(file.size - begin for file, begin in missing.items())
    if needed > staging.free:
        _remove_paths([file.part for file in files], staging.folder, execute)
        raise TorchExtensionError(
            f"{staging.folder} on the node has {staging.free >> 20} MiB free, wanted are {-(-needed >> 20)} MiB. Nothing was"
            f" changed. Make room, or set {staging.knob}."
        )
    # what no node can have begun to read; another run may have brought the rest a moment ago
    own: list[str] = []
    for file, begin in missing.items():
        result = stream(_receive_command(file, begin, staging), file.path, begin)
        if result.status != 0:
            _remove_paths([*own, file.part], staging.folder, execute)
            error = VanishedError if _VANISHED in result.out else TorchExtensionError
            raise error(
                f"{file.name} cannot be written to {staging.folder} on the node: {last_error_line(result)}. Nothing was changed."
                f" Make room there, or set {staging.knob}."
            )
        size = dict(find_reports(result.out)).get("size", "0").strip()
        if not size:
            raise VanishedError(
                f"{file.name} was removed from {staging.folder} on the node while it was brought: another run is at work there. Nothing was"
                f" changed. Run again when that has ended, or set {staging.knob}."
            )
        if size != str(file.size):
            _remove_paths([file.part], staging.folder, execute)
            raise NotStreamedError
        own += [] if staging.is_shared else [file.place]


def _receive_command(file: File, begin: int, staging: Staging) -> str:
    """The command that writes a file, or the rest of it.

    Two runs may do so at the same time: both write the same bytes to the same places (a part is named after the hash), nobody cuts off
    what is there, and who is done first gives the part its name.
    """
    folder, part, place = map(shlex.quote, (staging.folder, file.part, file.place))
    make_subfolder = f"mkdir -p {shlex.quote(file.subfolder)} &&" if file.subfolder else ""
    part_size = staging.sizes.get(file.part, 0)
    discard = f"rm -f {part} &&" if not file.sha256 or part_size > file.size else ""
    keep = " conv=notrunc" if part_size < file.size else ""  # else nothing would tell whether all has come
    # Each node checks what it installs. What nobody checks before it gets its name would be refused by all, for ever.
    check = f"printf '{file.sha256}  %s\\n' {part} | sha256sum -c >&2 &&" if staging.is_shared else ""
    return (
        f"{_BEGIN_MARKER}; cd {folder} || {{ echo {_VANISHED}; exit 1; }}; {CHECK_FOLDER} {discard_planted(part)} "
        f"umask 077 && {make_subfolder} {discard} dd of={part} bs={_BLOCK_SIZE} seek={begin // _BLOCK_SIZE}{keep} || exit 1; "
        f'if [ -f {part} ] && [ "$(wc -c < {part})" -eq {file.size} ]; then {{ {check} mv -f {part} {place}; }} || [ -f {place} ] || exit 1; fi; '
        f'echo "{MARKER}size:$( {{ wc -c < {part} || wc -c < {place}; }} 2>/dev/null )"'
    )


def _resume_offset(file: File, staging: Staging) -> int | None:
    """Where to begin with a file; None if all of it is there."""
    if not staging.list_missing([file]):
        return None
    part_size = staging.sizes.get(file.part, 0) if file.sha256 else 0
    return part_size // _BLOCK_SIZE * _BLOCK_SIZE if part_size <= file.size else 0


def remove_files(files: t.Iterable[File], folder: str, execute: Execute) -> None:
    """Remove files and their parts from a folder of the node, and the folder if nothing else is in it."""
    _remove_paths([path for file in files for path in (file.place, file.part)], folder, execute)


def remove_parts(files: t.Iterable[File], folder: str, execute: Execute) -> None:
    """Remove the parts of files from a folder of the node, and the folder if nothing else is in it."""
    _remove_paths([file.part for file in files], folder, execute)


def _remove_paths(paths: t.Sequence[str], folder: str, execute: Execute) -> None:
    """Remove files of a folder, and its subfolders and itself as far as nothing else is in them."""
    folder, subfolders = shlex.quote(folder), {os.path.dirname(path) for path in paths} - {""}
    remove_subfolders = f"rmdir {shlex.join(sorted(subfolders))} 2>/dev/null;" if subfolders else ""
    execute(
        f"cd {folder} && {{ {CHECK_FOLDER} rm -f {shlex.join(paths)}; {remove_subfolders} }}; cd / && rmdir {folder} 2>/dev/null"
    )


def quote_path(folder: str) -> str:
    """Quote a path for sh(1), but have a home at its front expanded."""
    home, slash, rest = folder.partition("/")
    if re.fullmatch(r"~[\w.-]*", home):
        return home + slash + (shlex.quote(rest) if rest else "")
    return shlex.quote(folder)


def last_error_line(result: CommandResult) -> str:
    """The last line of a command's standard error, without dd's statistics."""
    lines = [
        line.strip()
        for line in result.err.splitlines()
        if line.strip() and not re.search(r"^\d+.*(records|copied)", line)
    ]
    return lines[-1].rstrip(".") if lines else f"exit status {result.status}"
