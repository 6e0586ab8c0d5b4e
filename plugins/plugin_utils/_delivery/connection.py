# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Make Ansible's connection to a node fast for files and modules. What the operator has set stays as it is."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shlex
import subprocess
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import PACE, Watch

if t.TYPE_CHECKING:
    from ansible.playbook.task import Task
    from ansible.plugins.become import BecomeBase
    from ansible.plugins.connection import ConnectionBase

_SSH_NAMES = ("ssh", "ansible.builtin.ssh", "ansible.legacy.ssh")
_ARGUMENT_OPTIONS = ("ssh_args", "ssh_common_args", "ssh_extra_args")
_VALUELESS_FLAGS = re.compile("-[46AaCfGgKkMNnqsTtVvXxYy]+")  # those of ssh(1) that take no value
_COMPRESSION = re.compile(r"(-o)?\s*compression[\s=]+yes", re.IGNORECASE)
_CONTROL_PATH = re.compile(r"(-o)?\s*controlpath[\s=]+\"?(?P<path>[^\"]+)", re.IGNORECASE)
_CHUNK_SIZE = 1 << 18  # bytes that are read at a time
_PIPE_SIZE = 1 << 20  # bytes, of Linux, whose pipes have 1 << 16 and more than this for root alone
_SENDFILE_UNSUPPORTED = (
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSOCK,
    errno.EOPNOTSUPP,
)  # other systems send to sockets alone
#: a node that takes no more is given up; its disk, or a line that is down for a moment, has this long
_PACE = PACE._replace(seconds=300.0)
_NO_SOCKET = "none"
_OWN_SUFFIX = "-u"  # "uncompressed"; short, since the path of a socket has 108 bytes at most


def enable_pipelining(connection: ConnectionBase, task: Task, task_vars: t.Mapping[str, t.Any]) -> bool:
    """Hand modules to the node's Python over its standard input, unless the operator has set whether to.

    Ansible's default is to put a file there first, in four round trips instead of one, only because sudo may want a terminal
    (option pipelining of the connection). And such a file is the login user's: another user who is not root cannot read it
    where the node has no ACLs. Where sudo does want a terminal, :func:`disable_pipelining` goes back.

    :param task: the task that uses the connection
    :param task_vars: its variables
    :returns: whether this has turned it on
    """
    try:
        # before ansible-core 2.18 a connection forgets where its options come from, and has to be told the variables again
        variables = task_vars
        if task.delegate_to:
            variables = task_vars.get("ansible_delegated_vars", {}).get(task.delegate_to, {})
        value, origin = connection.get_option_and_origin("pipelining", hostvars=variables)
    except KeyError:
        return False
    if value or (origin != "default" and not _is_filled_in(task, task_vars)):
        return False
    connection.set_option("pipelining", True)
    return True


def _is_filled_in(task: Task, task_vars: t.Mapping[str, t.Any]) -> bool:
    """Whether the variables that set the option pipelining are not the operator's.

    Ansible sets variables of its own connection for plays to read (``PlayContext.update_vars``), and before ansible-core 2.18 they count
    as its origin.
    """
    hostvars: t.Any = task_vars.get("hostvars")
    find_host = getattr(hostvars, "_find_host", None)  # gone from newer ones, which need none of this
    host = find_host(task.delegate_to or task_vars["inventory_hostname"]) if find_host else None
    if host is None:
        return False
    parent: t.Any = task
    while parent is not None and not hasattr(parent, "_play"):
        parent = parent._parent
    play = None if parent is None else parent._play
    own = hostvars._variable_manager.get_vars(play=play, host=host, task=task, include_hostvars=False)
    return not own.keys() & {"ansible_pipelining", "ansible_ssh_pipelining"}


def disable_pipelining(connection: ConnectionBase) -> None:
    """Have Ansible put each module into a file on the node."""
    connection.set_option("pipelining", False)


def can_stream(connection: ConnectionBase) -> bool:
    """Whether a command on the node can read a file from its standard input (:func:`stream_file`), whoever runs it there."""
    is_ssh = connection._load_name in _SSH_NAMES and hasattr(connection, "_send_initial_data")
    return is_ssh and (connection.become is None or _leaves_standard_input(connection.become))


def _leaves_standard_input(become: BecomeBase) -> bool:
    """Whether what becomes another user leaves the standard input to the command that it runs.

    Plugins say so from ansible-core 2.19 on. Before that, Ansible itself asks for their name.
    """
    return getattr(become, "pipelining", become.name != "su")


@contextlib.contextmanager
def stream_file(connection: ConnectionBase, file: t.BinaryIO) -> t.Iterator[bytes]:
    """Have commands read a file, from its current position, instead of the ``in_data`` that this yields for them.

    Ansible would have all of it in memory. It writes in_data to ssh by ``_send_initial_data``, after it has dealt with
    passwords (ansible-core 2.16 to 2.21). Should another version do without, the command reads what this yields; so check how
    much has arrived. Where a connection is lost, Ansible may run the same command again (option reconnection_retries).
    """
    send, begin = connection._send_initial_data, file.tell()
    connection._send_initial_data = lambda pipe, data, ssh: send(_FilePipe(pipe, file, begin, ssh.terminate), data, ssh)
    try:
        yield b"\n"
    finally:
        del connection._send_initial_data


class _FilePipe:
    """A pipe that sends a file whatever is written to it: without copies in our memory, where the system can."""

    def __init__(self, pipe: t.BinaryIO, file: t.BinaryIO, begin: int, end: t.Callable[[], object]) -> None:
        """
        :param end: of the program that reads the pipe, if it gets nowhere
        """
        self._pipe, self._file, self._position, self._end = pipe, file, begin, end

    def write(self, _data: bytes) -> None:
        with contextlib.suppress(AttributeError, OSError):  # not everywhere, and not as much for everybody
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        with Watch(_PACE, self._end, lambda: self._position):
            self._send()

    def _send(self) -> None:
        try:
            while sent := os.sendfile(self._pipe.fileno(), self._file.fileno(), self._position, _CHUNK_SIZE):
                self._position += sent
        except OSError as exc:
            if exc.errno not in _SENDFILE_UNSUPPORTED:
                raise
            self._file.seek(self._position)
            while chunk := self._file.read(_CHUNK_SIZE):
                self._pipe.write(chunk)
                self._position += len(chunk)

    def close(self) -> None:
        self._pipe.close()


def tune_for_files(connection: ConnectionBase, may_reuse: bool = False) -> None:
    """Have files go over a connection without compression, and in the cipher that costs least.

    :param may_reuse: as with :func:`avoid_compression`
    """
    if avoid_compression(connection, may_reuse):
        prefer_aes(connection)


def avoid_compression(connection: ConnectionBase, may_reuse: bool = False) -> bool:
    """Turn off the compression that Ansible's default of ``ssh_args`` asks for (``-C``).

    A wheel is compressed already, and to compress it again takes eight times as long as to send it. A connection that is open
    stays as it is, whatever goes through it; so this makes for another one, beside that.

    :param may_reuse: whether the connection that an earlier task has opened may serve, where there is one: to log in once
        more is worth it for a wheel, not for a short command
    :returns: whether this makes for another connection, which is not open yet
    """
    if connection._load_name not in _SSH_NAMES:
        return False
    arguments = {name: shlex.split(connection.get_option(name) or "") for name in _ARGUMENT_OPTIONS}
    if not any(_asks_for_compression(word) for words in arguments.values() for word in words):
        return False
    paths = [match["path"] for words in arguments.values() for match in map(_CONTROL_PATH.fullmatch, words) if match]
    path = paths[0] if paths else connection.get_option("control_path") or _default_control_path(connection)
    if may_reuse and _is_open(path, connection):
        return False
    first = ["-o", "Compression=no"]  # ssh takes the first value that it is given
    if not paths:
        connection.set_option("control_path", path if path.lower() == _NO_SOCKET else path + _OWN_SUFFIX)
    elif path.lower() != _NO_SOCKET:
        first += ["-o", f"ControlPath={path}{_OWN_SUFFIX}"]
    arguments["ssh_args"] = first + arguments["ssh_args"]
    for name, words in arguments.items():
        connection.set_option(name, shlex.join(filter(None, map(_without_compression, words))))
    return not _is_open(path + _OWN_SUFFIX, connection)


def prefer_aes(connection: ConnectionBase) -> None:
    """Have a new connection prefer AES-GCM to ChaCha20, unless somebody has configured ssh's ciphers or their order.

    Both are what ssh offers by itself, ChaCha20 first (to OpenSSH 10), for processors without instructions for AES. With them a
    wheel costs a quarter less of both processors.
    """
    if not _has_aes():
        return
    program, ssh_args = connection.get_option("ssh_executable"), shlex.split(connection.get_option("ssh_args") or "")
    other_args = [word for name in _ARGUMENT_OPTIONS[1:] for word in shlex.split(connection.get_option(name) or "")]
    for flag, name in (("-p", "port"), ("-l", "remote_user")):  # a Match of ssh's configuration may ask for them
        value = connection.get_option(name)
        other_args += [flag, str(value)] if value else []
    offered = _list_ciphers([program, *ssh_args, *other_args, "-G", connection.get_option("host")])
    if not offered or offered != _list_ciphers([program, "-F", "none", "-G", "localhost"]):
        return
    preferred = [cipher for cipher in offered if "-gcm@" in cipher]
    order = ",".join([*preferred, *(cipher for cipher in offered if cipher not in preferred)])
    connection.set_option("ssh_args", shlex.join(["-o", f"Ciphers={order}", *ssh_args]))


def _has_aes() -> bool:
    """Whether this processor has instructions for AES. That of a node that has GPUs does."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return re.search(r"^(flags|Features)\s*:.*\baes\b", file.read(_CHUNK_SIZE >> 4), re.MULTILINE) is not None
    except OSError:
        return False


def _list_ciphers(command: list[str]) -> list[str]:
    """The ciphers that ssh would offer, in its order; none if it does not tell."""
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    match = re.search(r"^ciphers (\S+)$", result.stdout, re.MULTILINE)
    return match[1].split(",") if match else []


def _asks_for_compression(word: str) -> bool:
    return _without_compression(word) != word


def _without_compression(word: str) -> str:
    """A word of ssh's command line that no longer asks for compression; empty if that was all it asked for."""
    if _COMPRESSION.fullmatch(word):
        return re.sub("yes$", "no", word, flags=re.IGNORECASE)
    if not _VALUELESS_FLAGS.fullmatch(word):
        return word
    flags = word.replace("C", "")
    return "" if flags == "-" else flags


def _default_control_path(connection: ConnectionBase) -> str:
    """The path that ansible.builtin.ssh makes up where none is set."""
    return connection._create_control_path(*(connection.get_option(name) for name in ("host", "port", "remote_user")))


def _is_open(path: str, connection: ConnectionBase) -> bool:
    """Whether a connection has its socket there. One whose name only ssh could work out counts as none."""
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
