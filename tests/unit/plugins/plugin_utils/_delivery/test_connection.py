# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's real connections, of the ansible-core that is installed."""

from __future__ import annotations

import contextlib
import errno
import random
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import become_loader, connection_loader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.watch import Limit
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import connection as connection_module

SIZE = 2_300_001  # bytes, more than go through a pipe at once
PERSIST = "-o ControlMaster=auto -o ControlPersist=60s"


@pytest.fixture
def make_connection(monkeypatch):
    """Makes a connection as Ansible does, with what the operator has set in variables and in the environment."""
    monkeypatch.delenv("ANSIBLE_PIPELINING", raising=False)

    def make(name="ssh", environ=None, become=None, **variables):
        for key, value in (environ or {}).items():
            monkeypatch.setenv(key, value)
        connection = connection_loader.get(name, PlayContext(), "/dev/null")
        connection.set_options(var_options={"inventory_hostname": "node", "ansible_host": "node", **variables})
        if become:
            connection.set_become_plugin(become_loader.get(become))
        return connection

    return make


def pipelines(connection, delegate_to=None, **variables):
    task_vars = {"ansible_delegated_vars": {delegate_to: variables}} if delegate_to else variables
    task = Task()
    task.delegate_to = delegate_to
    was_chosen = connection_module.enable_pipelining(connection, task, task_vars)
    return connection.get_option("pipelining"), was_chosen


@pytest.mark.parametrize("become", [None, "sudo"])
@pytest.mark.parametrize("name", ["ssh", "local"])
@pytest.mark.parametrize("delegate_to", [None, "other"])
def test_pipelining_is_on_unless_the_operator_sets_it(delegate_to, name, become, make_connection):
    connection = make_connection(name, become=become)
    assert connection.get_option("pipelining") is False
    assert pipelines(connection, delegate_to) == (True, True)
    connection_module.disable_pipelining(connection)
    assert connection.get_option("pipelining") is False


@pytest.mark.parametrize(
    "options",
    [
        {"environ": {"ANSIBLE_PIPELINING": "0"}},
        {"ansible_pipelining": False},
        {"ansible_ssh_pipelining": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("delegate_to", [None, "other"])
def test_pipelining_stays_as_the_operator_set_it(options, delegate_to, make_connection):
    variables = {name: value for name, value in options.items() if name.startswith("ansible_")}
    assert pipelines(make_connection(**options), delegate_to, **variables) == (False, False)


@pytest.mark.parametrize(
    ("name", "become", "can"),
    [
        ("ssh", None, True),
        ("ssh", "sudo", True),
        ("ssh", "su", False),  # it wants a terminal
        ("local", None, False),
    ],
)
def test_files_can_be_streamed_over_ssh_unless_become_wants_a_terminal(name, become, can, make_connection):
    assert connection_module.can_stream(make_connection(name, become=become)) is can


def words(connection, option="ssh_args"):
    return shlex.split(connection.get_option(option) or "")


def command_line(connection):
    """The words of the command line that Ansible would run, and the place of its socket."""
    connection.host = connection.get_option("host")  # as exec_command does
    arguments = [word.decode() for word in connection._build_command("ssh", "ssh", "-tt", "node", "true")]
    paths = [word.partition("=")[2].strip('"') for word in arguments if word.lower().startswith("controlpath=")]
    return arguments, paths[0] if paths else None


def test_ansibles_default_compression_is_turned_off_in_a_connection_of_its_own(make_connection):
    before, compressed_path = command_line(make_connection())
    assert "-C" in before, "what is turned off"
    connection = make_connection()
    connection_module.avoid_compression(connection)
    after, path = command_line(connection)
    assert "-C" not in after
    assert after[after.index("-o") + 1] == "Compression=no"
    assert {"ControlMaster=auto", "ControlPersist=60s"} <= set(after)
    assert path != compressed_path
    assert path.rpartition("/")[0] == compressed_path.rpartition("/")[0]


def test_each_node_and_user_has_a_socket_of_its_own(make_connection):
    paths = set()
    for variables in ({}, {"ansible_host": "other"}, {"ansible_port": 2222}, {"ansible_user": "trainer"}):
        connection = make_connection(**variables)
        connection_module.avoid_compression(connection)
        paths.add(command_line(connection)[1])
    assert len(paths) == 4


def test_turning_compression_off_twice_changes_nothing_more(make_connection):
    connection = make_connection()
    connection_module.avoid_compression(connection)
    once = command_line(connection)
    connection_module.avoid_compression(connection)
    assert command_line(connection) == once


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("-C", []),
        ("-vC", ["-v"]),
        ("-CA4", ["-A4"]),
        ("-o Compression=yes", ["-o", "Compression=no"]),
        ("-oCompression=yes -v", ["-oCompression=no", "-v"]),
        ("-o 'compression yes'", ["-o", "compression no"]),
        ("-C -i '/my keys/C' -l C", ["-i", "/my keys/C", "-l", "C"]),
    ],
)
@pytest.mark.parametrize("option", ["ssh_args", "ssh_common_args", "ssh_extra_args"])
def test_compression_is_turned_off_however_it_was_requested(option, given, left, make_connection):
    connection = make_connection(**{"ansible_ssh_args": PERSIST, f"ansible_{option}": given})
    connection_module.avoid_compression(connection)
    assert words(connection)[:2] == ["-o", "Compression=no"]
    rest = words(connection, option)
    assert (rest[2:] if option == "ssh_args" else rest) == left


def test_turning_compression_off_twice_changes_nothing_more_with_a_control_path_of_the_operator(make_connection):
    connection = make_connection(ansible_ssh_args=f"{PERSIST} -o Compression=yes -o ControlPath=/run/%h")
    connection_module.avoid_compression(connection)
    once = command_line(connection)
    connection_module.avoid_compression(connection)
    assert command_line(connection) == once


@pytest.mark.parametrize(
    ("settings", "socket"),
    [
        ({"ansible_control_path": "%(directory)s/%%h-%%r-%%p"}, "node-trainer-2222"),
        ({"ansible_ssh_args": f"{PERSIST} -C -o ControlPath=FOLDER/mine-%n"}, "mine-node"),
    ],
)
def test_an_open_connection_is_reused_if_it_may_be(settings, socket, make_connection, tmp_path):
    settings = {key: value.replace("FOLDER", str(tmp_path)) for key, value in settings.items()}
    settings |= {"ansible_host": "node", "ansible_user": "trainer", "ansible_port": 2222}
    settings |= {"ansible_control_path_dir": str(tmp_path)}
    for is_open in (False, True):
        if is_open:
            (tmp_path / socket).touch()
        connection = make_connection(**settings)
        before = command_line(connection)
        connection_module.avoid_compression(connection, may_reuse=True)
        assert (command_line(connection) == before) is is_open
    connection_module.avoid_compression(connection)
    assert command_line(connection) != before


def test_an_open_connection_at_ansibles_default_path_is_recognised(make_connection, tmp_path):
    settings = {"ansible_control_path_dir": str(tmp_path), "ansible_host": "node"}
    connection = make_connection(**settings)
    before = command_line(connection)
    Path(before[1]).touch()
    connection_module.avoid_compression(connection, may_reuse=True)
    assert command_line(connection) == before


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh here")
@pytest.mark.parametrize("given", ["-C", "-vC", "-o Compression=yes", "-oCompression=yes"])
def test_ssh_itself_reports_that_compression_is_off(given, make_connection):
    connection = make_connection(ansible_ssh_args=given)
    for wanted in ("yes", "no"):
        command = ["ssh", "-G", *(word for word in words(connection) if word != "-v"), "node"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert f"compression {wanted}\n" in output
        connection_module.avoid_compression(connection)


@pytest.mark.parametrize("where", ["ssh_args", "ssh_common_args", "ssh_extra_args"])
@pytest.mark.parametrize("form", ["-o ControlPath={}", "-oControlPath={}", "-o 'controlpath {}'"])
def test_a_control_path_of_the_operator_gets_a_suffix(form, where, make_connection):
    arguments = {"ansible_ssh_args": f"-C {PERSIST}"}
    arguments[f"ansible_{where}"] = f"{arguments.get(f'ansible_{where}', '')} {form.format('/run/me/%C')}"
    connection = make_connection(**arguments)
    connection_module.avoid_compression(connection)
    assert words(connection)[:4] == ["-o", "Compression=no", "-o", "ControlPath=/run/me/%C-u"]


@pytest.mark.parametrize("where", ["ansible_control_path", "ansible_ssh_args"])
def test_a_control_path_of_none_stays_none(where, make_connection):
    variables = {"ansible_ssh_args": "-C"} if where == "ansible_control_path" else {}
    variables[where] = "none" if where == "ansible_control_path" else f"-C {PERSIST} -o ControlPath=none"
    connection = make_connection(**variables)
    before = connection.get_option("control_path")
    connection_module.avoid_compression(connection)
    assert connection.get_option("control_path") == before
    assert not any("-u" in word for word in words(connection))


def test_a_control_path_of_ansibles_option_gets_a_suffix(make_connection):
    connection = make_connection(ansible_control_path="%(directory)s/%%C")
    connection_module.avoid_compression(connection)
    assert command_line(connection)[1].endswith("/%C-u")


@pytest.mark.parametrize(
    ("name", "given"),
    [("ssh", {"ansible_ssh_args": PERSIST}), ("ssh", {"ansible_ssh_args": "-o Compression=no"}), ("local", {})],
)
def test_options_without_compression_stay_as_they_are(name, given, make_connection):
    connection = make_connection(name, **given)
    before = dict(connection._options)
    connection_module.avoid_compression(connection)
    assert connection._options == before


CHACHA, CTR, GCM = "chacha20-poly1305@openssh.com", "aes128-ctr", "aes128-gcm@openssh.com"


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Stands in the place of ssh, and tells which ciphers it would offer: by itself, and with what is configured."""
    monkeypatch.setattr(connection_module, "_has_aes", lambda: True)

    def make(own, configured):
        path = tmp_path / "ssh"
        path.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {tmp_path}/commands\n'
            f'case "$*" in *"-F none"*) echo ciphers {own};; *) echo port 22; echo ciphers {configured};; esac\n'
        )
        path.chmod(0o755)
        return str(path)

    return make


def test_aes_gcm_comes_first_of_ssh_s_default_ciphers(ssh, make_connection, tmp_path):
    both = f"{CHACHA},{CTR},{GCM}"
    connection = make_connection(
        ansible_ssh_executable=ssh(both, both), ansible_ssh_args=f"{PERSIST} -F /my/config", ansible_user="trainer"
    )
    before = words(connection)
    connection_module.prefer_aes(connection)
    assert words(connection) == ["-o", f"Ciphers={GCM},{CHACHA},{CTR}", *before]
    commands = (tmp_path / "commands").read_text().splitlines()
    assert commands[0] == f"{PERSIST} -F /my/config -l trainer -G node"


@pytest.mark.parametrize("configured", [CTR, f"{GCM},{CHACHA},{CTR}", f"{CHACHA},{GCM},{CTR}", ""])
def test_configured_ciphers_stay_in_their_order(configured, ssh, make_connection):
    connection = make_connection(ansible_ssh_executable=ssh(f"{CHACHA},{CTR},{GCM}", configured))
    before = words(connection)
    connection_module.prefer_aes(connection)
    assert words(connection) == before


@pytest.mark.parametrize("given", [{"ansible_ssh_executable": "/bin/false"}, {"ansible_ssh_executable": "/none/ssh"}])
def test_the_ciphers_of_an_ssh_that_does_not_list_them_stay(given, make_connection, monkeypatch):
    monkeypatch.setattr(connection_module, "_has_aes", lambda: True)
    connection = make_connection(**given)
    before = words(connection)
    connection_module.prefer_aes(connection)
    assert words(connection) == before


def test_on_a_processor_without_aes_the_ciphers_stay(ssh, make_connection, monkeypatch):
    connection = make_connection(ansible_ssh_executable=ssh(f"{CHACHA},{GCM}", f"{CHACHA},{GCM}"))
    monkeypatch.setattr(connection_module, "_has_aes", lambda: False)
    before = words(connection)
    connection_module.prefer_aes(connection)
    assert words(connection) == before


def test_ssh_is_asked_for_its_ciphers_only_before_a_new_connection(ssh, make_connection, tmp_path):
    program = ssh(f"{CHACHA},{GCM}", f"{CHACHA},{GCM}")
    settings = {"ansible_ssh_executable": program, "ansible_control_path": str(tmp_path / "socket")}
    for is_open in (False, True):
        connection = make_connection(ansible_ssh_args=f"-C {PERSIST}", **settings)
        connection_module.tune_for_files(connection, may_reuse=True)
        assert command_line(connection)[1] == f"{tmp_path}/socket-u"
        assert (tmp_path / "commands").exists() is not is_open
        (tmp_path / "commands").unlink(missing_ok=True)
        (tmp_path / "socket-u").touch()


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh here")
def test_ssh_itself_accepts_the_new_order_of_ciphers(make_connection, monkeypatch):
    monkeypatch.setattr(connection_module, "_has_aes", lambda: True)
    connection = make_connection(ansible_ssh_args="-F none")
    before = connection_module._list_ciphers(["ssh", "-F", "none", "-G", "node"])
    connection_module.prefer_aes(connection)
    after = connection_module._list_ciphers(["ssh", *words(connection), "-G", "node"])
    assert set(after) == set(before)
    assert "-gcm@" in after[0]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "wheel"
    path.write_bytes(random.Random(1).randbytes(SIZE))  # noqa: S311
    with open(path, "rb") as opened:
        yield opened


def start(*words):
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize("begin", [0, 1, 1 << 16, SIZE])
def test_a_command_reads_the_file_from_its_position_to_its_end(begin, make_connection, file):
    connection = make_connection()
    file.seek(begin)
    with connection_module.stream_file(connection, file) as data, start("timeout", "20", "sha256sum") as process:
        assert data, "Ansible writes nothing if there is nothing to write"
        connection._send_initial_data(process.stdin, data, process)
        output = process.stdout.read()
    file.seek(begin)
    wanted = subprocess.run(["sha256sum"], input=file.read(), capture_output=True, check=True).stdout
    assert output == wanted


def test_a_command_reads_the_same_on_systems_that_send_files_to_sockets_alone(make_connection, file, monkeypatch):
    def sendfile(*_arguments):
        raise OSError(errno.ENOTSOCK, "Socket operation on non-socket")

    monkeypatch.setattr("os.sendfile", sendfile)
    monkeypatch.delattr("fcntl.F_SETPIPE_SZ")
    connection = make_connection()
    file.seek(7)
    with connection_module.stream_file(connection, file) as data, start("timeout", "20", "wc", "-c") as process:
        connection._send_initial_data(process.stdin, data, process)
        assert int(process.stdout.read()) == SIZE - 7


def test_a_read_error_is_not_taken_for_the_end_of_the_file(make_connection, file, monkeypatch):
    def sendfile(*_arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.sendfile", sendfile)
    connection = make_connection()
    with connection_module.stream_file(connection, file) as data, start("timeout", "20", "cat") as process:
        with pytest.raises(AnsibleConnectionFailure):
            connection._send_initial_data(process.stdin, data, process)
        process.stdin.close()


def test_a_command_that_ansible_runs_again_reads_the_same(make_connection, file):
    connection = make_connection()
    file.seek(7)
    with connection_module.stream_file(connection, file) as data:
        outputs = []
        for _try in range(2):
            with start("timeout", "20", "sha256sum") as process:
                connection._send_initial_data(process.stdin, data, process)
                outputs.append(process.stdout.read())
    assert outputs[0] == outputs[1]


def test_commands_after_the_stream_read_their_own_input_again(make_connection, file):
    connection = make_connection()
    with pytest.raises(KeyError), connection_module.stream_file(connection, file):
        raise KeyError
    with start("timeout", "20", "cat") as process:
        connection._send_initial_data(process.stdin, b"a module", process)
        assert process.stdout.read() == b"a module"


def test_a_connection_that_breaks_while_ssh_runs_is_ansibles_connection_failure(make_connection, file):
    connection = make_connection()
    with (
        connection_module.stream_file(connection, file) as data,
        start("sh", "-c", "exec <&-; echo; sleep 5") as process,
    ):
        process.stdout.readline()
        with pytest.raises(AnsibleConnectionFailure, match="Data could not be sent to remote host"):
            connection._send_initial_data(process.stdin, data, process)
        process.kill()


@pytest.mark.parametrize(
    "command", ["sleep 60", "while sleep 0.02; do head -c 1 >/dev/null; done"], ids=["nothing", "a byte"]
)
@pytest.mark.parametrize("has_sendfile", [True, False])
def test_a_node_that_takes_the_file_too_slowly_is_given_up(
    has_sendfile, command, make_connection, tmp_path, monkeypatch
):
    def sendfile(*_arguments):
        raise OSError(errno.ENOTSOCK, "Socket operation on non-socket")

    monkeypatch.setattr(connection_module, "_PACE", Limit(1, 1 << 20))
    if not has_sendfile:
        monkeypatch.setattr("os.sendfile", sendfile)
    (tmp_path / "large").write_bytes(bytes(16 << 20))
    connection = make_connection()
    with (
        open(tmp_path / "large", "rb") as large,
        connection_module.stream_file(connection, large) as data,
        start("sh", "-c", f"exec timeout 60 sh -c '{command}'") as process,
    ):
        with contextlib.suppress(AnsibleConnectionFailure):  # or ssh has ended by then
            connection._send_initial_data(process.stdin, data, process)
        assert process.wait(20) in (-signal.SIGTERM, 124, 128 + signal.SIGTERM)
        with contextlib.suppress(OSError):
            process.stdin.close()


def test_if_ssh_has_ended_its_exit_status_decides(make_connection, file):
    connection = make_connection()
    with connection_module.stream_file(connection, file) as data, start("false") as process:
        process.wait()
        connection._send_initial_data(process.stdin, data, process)
        assert process.returncode == 1


@pytest.mark.parametrize(("variables", "is_on"), [({}, True), ({"ansible_pipelining": False}, False)])
def test_what_ansible_itself_fills_in_is_not_taken_for_the_operators(variables, is_on, make_connection):
    """Before ansible-core 2.18 a play's variables have ansible_pipelining whether the operator sets it or not."""
    loader = DataLoader()
    inventory = InventoryManager(loader, sources=["node,"])
    manager = VariableManager(loader, inventory)
    for name, value in variables.items():
        inventory.get_host("node").set_variable(name, value)
    task_vars = manager.get_vars(host=inventory.get_host("node"))
    PlayContext().update_vars(task_vars)
    task_vars["hostvars"] = HostVars(inventory, manager, loader)
    task_vars["inventory_hostname"] = "node"
    connection = make_connection(**variables)
    connection_module.enable_pipelining(connection, Task(), task_vars)
    assert connection.get_option("pipelining") is is_on
