# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest
from ansible.module_utils import basic
from servers import make_certificate, running_server, tls_context
from shells import mount_point, remove_tree
from venvs import add_pip, make_plain_venv, site_packages

import ansible_collections
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.module_answers import check_answer

# The same examples every time and on every machine; FUZZ_EXAMPLES=10000 has so many of each property made anew.
hypothesis.settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "50")),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    print_blob=True,
    deadline=None,  # limited.py has limits that do not depend on what else this machine does
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("fuzz")

OLD_ABI = b"\0_ZN3c105ErrorC2ENS_14SourceLocationESs\0"


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch, tmp_path_factory):
    """No test reads or writes what the user of this machine has set for pip, uv, requests or Python."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.upper().startswith(("PIP_", "UV_", "XDG_", "PYTHON")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "VIRTUAL_ENV", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def home() -> Path:
    return Path(os.environ["HOME"])


@pytest.fixture
def run(tmp_path):
    """Runs a command line as modules do: exit status, output, errors."""

    def run(command, cwd=tmp_path):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def make_venv(tmp_path):
    """Makes a real virtual environment, without or with pip."""

    def make(name: str = "venv", pip: bool = False, system_site_packages: bool = False) -> Path:
        made = make_plain_venv(tmp_path / name, system_site_packages)
        return add_pip(made) if pip else made

    return make


@pytest.fixture
def venv(make_venv) -> Path:
    return make_venv(pip=True)


@pytest.fixture
def packages(venv) -> Path:
    """The folder of the environment's packages."""
    return site_packages(venv)


@pytest.fixture
def run_module(capsys, monkeypatch):
    """Runs a module in this process; what it returns, failures included."""

    def run_module(module, check_mode=False, **arguments):
        given = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check_mode}}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", given)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)  # from ansible-core 2.19 on
        with pytest.raises(SystemExit):
            module.main()
        answer = json.loads(capsys.readouterr().out)
        kept = check_answer(module.__name__.rpartition(".")[2], answer, "node")
        assert answer.keys() - kept.keys() <= {"invocation"}  # the action would not pass it on
        return answer

    return run_module


@pytest.fixture
def ansible():
    """Runs an ad-hoc task on a node that nobody can reach; exit status and what is said."""

    def ansible(module, arguments, *options):
        command = [Path(sys.executable).with_name("ansible"), "all", "-i", "node,", "-m", module, "-a", arguments]
        collections = str(Path(next(iter(ansible_collections.__path__))).parent)
        environ = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=environ)
        return done.returncode, done.stdout + done.stderr

    return ansible


@pytest.fixture
def shared():
    """A folder on a file system that is mounted somewhere, as those are that nodes share."""
    if mount_point("/dev/shm") == "/":  # noqa: S108
        pytest.skip("nothing is mounted at /dev/shm")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    remove_tree(folder)


@pytest.fixture
def open_folder():
    """A folder that every user of this machine can get to, as they cannot to the tests' own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    remove_tree(folder)


@pytest.fixture
def server():
    with running_server() as started:
        yield started


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """A file of a key and its certificate, which signs itself."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def tls_server(certificate, monkeypatch):
    """A server with TLS that this machine trusts, its pip included."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("PIP_CERT", str(certificate))
    with running_server(tls_context(certificate)) as started:
        yield started


@pytest.fixture
def other_host(certificate):
    """A server with TLS of which this machine thinks that it is another one than localhost."""
    with running_server(tls_context(certificate)) as started:
        started.url = f"https://127.0.0.1:{started.port}"
        yield started


@pytest.fixture
def netrc(home):
    """Writes the user's ``.netrc``."""

    def netrc(text):
        (home / ".netrc").write_text(text)

    return netrc


@pytest.fixture
def make_torch():
    """Makes what torch_info reads of torch."""

    def make(
        packages: Path,
        version: str = "__version__ = '2.6.0+cu124'\ncuda: Optional[str] = '12.4'\nhip: Optional[str] = None\n",
        library: bytes = OLD_ABI,
    ) -> Path:
        folder = packages / "torch"
        (folder / "lib").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise SystemExit('torch was imported')\n")
        (folder / "version.py").write_text(version)
        (folder / "lib" / "libc10.so").write_bytes(library)
        return folder

    return make


@pytest.fixture
def environment() -> dict:
    """A node, as torch_info returns it."""
    return {
        "python": {
            "executable": "/opt/venv/bin/python",
            "version": "3.11.2",
            "tag": "cp311",
            "abi": "cp311",
            "implementation": "cpython",
            "externally_managed": False,
            "prefix": "/opt/venv",
            "program": "/usr/bin/python3.11",
            "site_packages": "/opt/venv/lib/python3.11/site-packages",
            "search_path": [{"folder": "/opt/venv/lib/python3.11/site-packages", "owner": "environment"}],
            "access": {
                "user": "trainer",
                "owner": "trainer",
                "is_owner": True,
                "writable": True,
                "read_only": False,
            },
        },
        "platform": {
            "system": "linux",
            "machine": "x86_64",
            "libc": {"name": "glibc", "version": "2.36"},
            "libstdcxx": "3.4.30",
        },
        "torch": {
            "version": "2.2.0+cu121",
            "cuda": "12.1",
            "hip": None,
            "cxx11_abi": False,
            "path": "/opt/venv/lib/python3.11/site-packages/torch",
        },
        "installers": {"pip": "24.0", "uv": None, "reason": None},
        "pip_cache": {
            "dir": "/home/user/.cache/pip",
            "usable": True,
            "reason": None,
            "only_binary": [],
            "no_binary": [],
        },
        "sdists": {},
        "gpus": [],
        "driver": None,
        "variables": {},
        "distributions": {"flash-attn": None, "torch": "2.2.0+cu121"},
        "origins": {},
        "damage": {},
        "shadows": {},
        "leftovers": [],
    }
