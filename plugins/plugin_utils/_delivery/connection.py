# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Ansible's connection to a node, made quick for what we do. Where the operator has set something, that stays."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import typing as t

if t.TYPE_CHECKING:
    from ansible.plugins.connection import ConnectionBase

_SSH = ("ssh", "ansible.builtin.ssh", "ansible.legacy.ssh")
_ARGUMENTS = ("ssh_args", "ssh_common_args", "ssh_extra_args")
_FLAGS = re.compile("-[46AaCfGgKkMNnqsTtVvXxYy]+")  # those of ssh(1) that take no value
_COMPRESSION = re.compile(r"(-o)?\s*compression[\s=]+yes", re.IGNORECASE)
_CONTROL_PATH = re.compile(r"(-o)?\s*controlpath[\s=]+\"?(?P<path>[^\"]+)", re.IGNORECASE)
_PIECE = 1 << 18  # bytes that are read at a time
_PIPE = 1 << 20  # bytes, of Linux, whose pipes have 1 << 16 and more than this for root alone
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOPNOTSUPP)  # other systems send to sockets alone
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
    passwords (ansible-core 2.19 and 2.21). Should another version do without, the command reads what this yields; so see how
    much has come. Where a connection is lost, Ansible may run the same command again (option reconnection_retries).
    """
    send, begin = connection._send_initial_data, file.tell()
    connection._send_initial_data = lambda pipe, data, ssh: send(_Instead(pipe, file, begin), data, ssh)
    try:
        yield b"\n"
    finally:
        del connection._send_initial_data


class _Instead:
    """A pipe into which a file goes, whatever is written, and not by way of our memory where the system can do without."""

    def __init__(self, pipe: t.BinaryIO, file: t.BinaryIO, begin: int) -> None:
        self._pipe, self._file, self._begin = pipe, file, begin

    def write(self, _data: bytes) -> None:
        with contextlib.suppress(AttributeError, OSError):  # not everywhere, and not as much for everybody
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        at = self._begin
        try:
            while sent := os.sendfile(self._pipe.fileno(), self._file.fileno(), at, _PIECE):
                at += sent
        except OSError as exc:
            if exc.errno not in _NO_SENDFILE:
                raise
            self._file.seek(at)
            shutil.copyfileobj(self._file, self._pipe, _PIECE)

    def close(self) -> None:
        self._pipe.close()


def quicken(connection: ConnectionBase, lazily: bool = False) -> None:
    """Have files go over a connection without compression, and in the cipher that costs least.

    :param lazily: as with :func:`avoid_compression`
    """
    if avoid_compression(connection, lazily):
        prefer_aes(connection)


def avoid_compression(connection: ConnectionBase, lazily: bool = False) -> bool:
    """Turn off the compression that Ansible's default of ``ssh_args`` asks for (``-C``).

    A wheel is compressed already, and to compress it again takes eight times as long as to send it. A connection that is open
    stays as it is, whatever goes through it; so this makes for another one, beside that.

    :param lazily: whether a connection that an earlier task has opened may serve, where there is one: to log in once more
        is worth it for a wheel, not for a question
    :returns: whether this makes for another connection, which is not open yet
    """
    if connection._load_name not in _SSH:
        return False
    words = {name: shlex.split(connection.get_option(name) or "") for name in _ARGUMENTS}
    if not any(_compresses(word) for each in words.values() for word in each):
        return False
    paths = [match["path"] for each in words.values() for match in map(_CONTROL_PATH.fullmatch, each) if match]
    path = paths[0] if paths else connection.get_option("control_path") or _default_control_path(connection)
    if lazily and _is_open(path, connection):
        return False
    first = ["-o", "Compression=no"]  # ssh takes the first value that it is given
    if not paths:
        connection.set_option("control_path", path if path.lower() == _NO_SOCKET else path + _OWN)
    elif path.lower() != _NO_SOCKET:
        first += ["-o", f"ControlPath={path}{_OWN}"]
    words["ssh_args"] = first + words["ssh_args"]
    for name, each in words.items():
        connection.set_option(name, shlex.join(filter(None, map(_plain, each))))
    return not _is_open(path + _OWN, connection)


def prefer_aes(connection: ConnectionBase) -> None:
    """Have a new connection take AES-GCM before ChaCha20, where nobody has said what ssh shall take, and in what order.

    Both are what ssh offers by itself, ChaCha20 first (to OpenSSH 10), for processors without instructions for AES. With them a
    wheel costs a quarter less of both processors.
    """
    if not _has_aes():
        return
    program, words = connection.get_option("ssh_executable"), shlex.split(connection.get_option("ssh_args") or "")
    more = [word for name in _ARGUMENTS[1:] for word in shlex.split(connection.get_option(name) or "")]
    for flag, name in (("-p", "port"), ("-l", "remote_user")):  # a Match of ssh's configuration may ask for them
        value = connection.get_option(name)
        more += [flag, str(value)] if value else []
    offered = _ciphers([program, *words, *more, "-G", connection.get_option("host")])
    if not offered or offered != _ciphers([program, "-F", "none", "-G", "localhost"]):
        return
    first = [cipher for cipher in offered if "-gcm@" in cipher]
    order = ",".join([*first, *(cipher for cipher in offered if cipher not in first)])
    connection.set_option("ssh_args", shlex.join(["-o", f"Ciphers={order}", *words]))


def _has_aes() -> bool:
    """Whether this processor has instructions for AES. That of a node that has GPUs does."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return re.search(r"^(flags|Features)\s*:.*\baes\b", file.read(_PIECE >> 4), re.MULTILINE) is not None
    except OSError:
        return False


def _ciphers(command: list[str]) -> list[str]:
    """Those that ssh would offer, in its order; none if it does not tell."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = re.search(r"^ciphers (\S+)$", done.stdout, re.MULTILINE)
    return found[1].split(",") if found else []


def _compresses(word: str) -> bool:
    return _plain(word) != word


def _plain(word: str) -> str:
    """A word of ssh's command line that no longer asks for compression; empty if that was all it asked for."""
    if _COMPRESSION.fullmatch(word):
        return re.sub("yes$", "no", word, flags=re.IGNORECASE)
    if not _FLAGS.fullmatch(word):
        return word
    flags = word.replace("C", "")
    return "" if flags == "-" else flags


def _default_control_path(connection: ConnectionBase) -> str:
    """As ansible.builtin.ssh makes it where nobody has set one."""
    return connection._create_control_path(*(connection.get_option(name) for name in ("host", "port", "remote_user")))


def _is_open(path: str, connection: ConnectionBase) -> bool:
    """Whether there is a socket of a connection. One whose name only ssh could tell counts as none."""
    folder = os.path.expanduser(connection.get_option("control_path_dir"))
    tokens = {
        "h": connection.get_option("host"),
        "n": connection.get_option("host"),
        "p": connection.get_option("port") or 22,
        "r": connection.get_option("remote_user"),
        "%": "%",
    }
    path = path.replace("%(directory)s", folder).replace("%%", "%")  # Ansible's own, before ssh's
    path = re.sub("%([hnpr%])", lambda match: str(tokens[match[1]]), path)
    return os.path.exists(os.path.expanduser(path))
