# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Ansible's connection to a node, made quick for what we do. Where the operator has set something, that stays."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
import shutil
import typing as t

if t.TYPE_CHECKING:
    from ansible.plugins.connection import ConnectionBase

_SSH = ("ssh", "ansible.builtin.ssh", "ansible.legacy.ssh")
_ARGUMENTS = ("ssh_args", "ssh_common_args", "ssh_extra_args")
_FLAGS = re.compile("-[46AaCfGgKkMNnqsTtVvXxYy]+")  # those of ssh(1) that take no value
_COMPRESSION = re.compile(r"(-o)?\s*compression[\s=]+yes", re.IGNORECASE)
_CONTROL_PATH = re.compile(r"(-o)?\s*controlpath[\s=]+\"?(?P<path>[^\"]+)", re.IGNORECASE)
_PIECE = 1 << 18  # bytes that are read at a time
_NO_SOCKET = "none"
_OWN = "-u"  # "uncompressed"; short, since the path of a socket has 108 bytes at most


def pipeline(connection: ConnectionBase) -> None:
    """Hand modules to the node's Python over its standard input, where nobody has said whether to.

    Ansible's default is to put a file there first, in four round trips instead of one, only because sudo may want a terminal
    (option pipelining of the connection). Without become nothing wants one.
    """
    if connection.become is not None:
        return
    try:
        _value, origin = connection.get_option_and_origin("pipelining")
    except KeyError:
        return
    if origin == "default":
        connection.set_option("pipelining", True)


def can_stream(connection: ConnectionBase) -> bool:
    """Whether a command can be given a file as its standard input (:func:`streaming`), by whomever it is run there."""
    become = connection.become
    is_ssh = connection._load_name in _SSH and hasattr(connection, "_send_initial_data")
    return is_ssh and (become is None or become.pipelining)


@contextlib.contextmanager
def streaming(connection: ConnectionBase, file: t.BinaryIO) -> t.Iterator[bytes]:
    """Have commands read a file, from where it stands now, in place of the ``in_data`` that this yields for them.

    Ansible would have all of it in memory. It writes in_data to ssh by ``_send_initial_data``, after it has dealt with
    passwords, in all versions from 2.0 to 2.21. Should another one do without, the command reads what this yields; so see
    how much has come. Where a connection is lost, Ansible may run the same command again (option reconnection_retries).
    """
    send, begin = connection._send_initial_data, file.tell()
    connection._send_initial_data = lambda pipe, data, ssh: send(_Instead(pipe, file, begin), data, ssh)
    try:
        yield b"\n"
    finally:
        del connection._send_initial_data


class _Instead:
    """A pipe into which a file goes, whatever is written."""

    def __init__(self, pipe: t.BinaryIO, file: t.BinaryIO, begin: int) -> None:
        self._pipe, self._file, self._begin = pipe, file, begin

    def write(self, _data: bytes) -> None:
        self._file.seek(self._begin)
        shutil.copyfileobj(self._file, self._pipe, _PIECE)

    def close(self) -> None:
        self._pipe.close()


def uncompressed(connection: ConnectionBase) -> None:
    """Turn off the compression that Ansible's default of ``ssh_args`` asks for (``-C``).

    A wheel is compressed already, and to compress it again takes eight times as long as to send it. A connection that is open
    stays as it is, whatever goes through it; so this makes for another one, beside that.
    """
    if connection._load_name not in _SSH:
        return
    words = {name: shlex.split(connection.get_option(name) or "") for name in _ARGUMENTS}
    if not any(_compresses(word) for each in words.values() for word in each):
        return
    first = ["-o", "Compression=no"]  # ssh takes the first value that it is given
    paths = [match["path"] for each in words.values() for match in map(_CONTROL_PATH.fullmatch, each) if match]
    if not paths:
        connection.set_option("control_path", _control_path(connection))
    elif paths[0].lower() != _NO_SOCKET:
        first += ["-o", f"ControlPath={paths[0]}{_OWN}"]
    words["ssh_args"] = first + words["ssh_args"]
    for name, each in words.items():
        connection.set_option(name, shlex.join(filter(None, map(_without_flag, each))))


def _compresses(word: str) -> bool:
    return _without_flag(word) != word or _COMPRESSION.fullmatch(word) is not None


def _without_flag(word: str) -> str:
    """A word of ssh's command line without -C; empty if that was all."""
    if not _FLAGS.fullmatch(word):
        return word
    flags = word.replace("C", "")
    return "" if flags == "-" else flags


def _control_path(connection: ConnectionBase) -> str:
    """Where Ansible would have the socket of this connection, with another name."""
    set_by_operator = connection.get_option("control_path")
    if set_by_operator:
        return set_by_operator if set_by_operator.lower() == _NO_SOCKET else set_by_operator + _OWN
    who = "-".join(str(connection.get_option(name)) for name in ("host", "port", "remote_user"))
    return "%(directory)s/" + hashlib.sha256(f"{who}{_OWN}".encode()).hexdigest()[:10]
