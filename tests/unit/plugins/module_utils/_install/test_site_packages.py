# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from other_users import OWNER, as_user, give, needs_root
from wheels import LABEL, as_wanted, build_wheel, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.site_packages import (
    check_environment_can_change,
    decide_action,
    install,
    list_leftovers,
    remove_leftovers,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.damage import find_damage
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import find_installed
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import (
    ALL_DISTRIBUTIONS,
    describe_environment,
)

pytestmark = pytest.mark.slow  # most of them run pip

IMPORT_FAILS = {"flash_attn/__init__.py": "raise ImportError('undefined symbol: _ZN3c105ErrorC2')\n"}


class Node:
    """A real environment, and a folder to which wheels are delivered."""

    def __init__(self, venv, folder, run):
        self.venv, self.folder, self.run = venv, folder, run

    @property
    def environment(self):
        return describe_environment(
            str(self.venv), [ALL_DISTRIBUTIONS, "flash-attn"], self.run, os.environ, trusted_owners=["12345"]
        )[0]

    @property
    def packages(self):
        return self.environment["python"]["site_packages"]

    def deliver(self, **wheel):
        return as_wanted(
            build_wheel(self.folder, **wheel), **{key: wheel[key] for key in ("name", "version") if key in wheel}
        )

    def install(self, *wheels, requirements=(), verify="import", **changes):
        environment = self.environment
        environment["python"].update(changes)
        install(wheels, requirements, str(self.folder), environment, self.run, verify)

    def version(self):
        """What the environment itself says, without bytecode, which would change its files."""
        command = [str(self.venv / "bin" / "python"), "-B", "-c", "import flash_attn; print(flash_attn.V)"]
        return self.run(command)[1].strip()

    @contextlib.contextmanager
    def refuses(self, words):
        """Something is refused, and not one file of the environment has changed."""
        before = tree_state(self.venv)
        with pytest.raises(TorchExtensionError, match=words):
            yield
        assert tree_state(self.venv) == before


@pytest.fixture
def node(venv, tmp_path, run, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # looking shall not count as a change
    return Node(venv, tmp_path / "delivered", run)


@pytest.fixture(params=["pip", "uv"])
def any_node(request, make_venv, tmp_path, run):
    return Node(make_venv(pip=request.param == "pip"), tmp_path / "delivered", run)


def test_a_delivered_wheel_is_installed_with_what_it_requires_and_once(any_node):
    imports_it = {"flash_attn/__init__.py": "import einops\nV = '2.8.3'\n"}
    wheel = any_node.deliver(label=LABEL, requires=["torch", "einops"], files=imports_it)
    einops = any_node.deliver(name="einops", version="0.8.1")
    assert decide_action(wheel, any_node.environment, any_node.run).action == "install"
    any_node.install(wheel, requirements=[einops])
    assert any_node.version() == "2.8.3"
    environment = any_node.environment
    assert environment["distributions"]["einops"] == "0.8.1"
    assert environment["origins"]["flash-attn"]["filename"] == wheel["filename"]
    assert decide_action(wheel, environment, any_node.run).action == "keep"
    assert list(any_node.venv.rglob(".torch_extension-*")) == []


def test_a_wheel_for_another_torch_is_replaced_though_the_version_is_the_same(any_node):
    before = any_node.deliver(label="cu12torch2.5cxx11abiFALSE", files={"flash_attn/__init__.py": "V = 'torch 2.5'"})
    any_node.install(before)
    after = any_node.deliver(label=LABEL, files={"flash_attn/__init__.py": "V = 'torch 2.6'"})
    action = decide_action(after, any_node.environment, any_node.run)
    assert (action.action, before["filename"] in action.reason) == ("replace", True)
    any_node.install(after)
    assert any_node.version() == "torch 2.6"
    assert any_node.environment["origins"]["flash-attn"]["filename"] == after["filename"]


def test_neither_settings_nor_an_index_take_part(any_node, server, monkeypatch, tmp_path):
    """Not even those that name an index, another target, or a file that is not there."""
    index = f"{server.url}/simple/"
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(name, index)
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_REQUIREMENT", "/none")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {index}\n[install]\nrequire-hashes = true\n")
    (any_node.venv / "pip.conf").write_text(f"[global]\ntarget = {tmp_path}/elsewhere\n")
    (tmp_path / "uv.toml").write_text(f'index-url = "{index}"\n')
    monkeypatch.setenv("UV_REQUIRE_HASHES", "1")
    any_node.install(any_node.deliver(requires=["einops"]))
    assert any_node.version() == "2.8.3"
    assert server.requests == []


def test_a_requirement_that_would_need_an_index_fails_cleanly(any_node):
    """pip and uv would install it, for dependencies are none of their business here; it shows when it is imported."""
    wheel = any_node.deliver(requires=["einops"], files={"flash_attn/__init__.py": "import einops\n"})
    with any_node.refuses(r"does not load with .*No module named 'einops'. Nothing was changed"):
        any_node.install(wheel)


def test_a_wheel_whose_import_fails_leaves_the_old_version_installed(any_node):
    any_node.install(any_node.deliver(version="2.8.2"))
    assert any_node.version() == "2.8.2"
    wheel = any_node.deliver(files=IMPORT_FAILS)
    with any_node.refuses("does not load with .*undefined symbol: _ZN3c105ErrorC2"):
        any_node.install(wheel)
    assert any_node.version() == "2.8.2"
    assert list(any_node.venv.rglob(".torch_extension-*")) == []


def test_one_wheel_that_does_not_load_prevents_all_others(node):
    with node.refuses("flash_attn.*does not load"):
        node.install(node.deliver(name="causal-conv1d", version="1.5.0"), node.deliver(files=IMPORT_FAILS))


def test_without_verification_nothing_is_imported(node):
    node.install(node.deliver(files=IMPORT_FAILS), verify="none")
    assert node.environment["distributions"]["flash-attn"] == "2.8.3"


def put(folder, text="V = 'not the wheel'\n"):
    (folder / "flash_attn").mkdir(parents=True)
    (folder / "flash_attn" / "__init__.py").write_text(text)
    return folder / "flash_attn" / "__init__.py"


def test_modules_in_the_working_directory_do_not_count(node, tmp_path):
    put(tmp_path)
    with node.refuses("undefined symbol"):
        node.install(node.deliver(files=IMPORT_FAILS))


def test_a_copy_that_python_would_take_instead_is_told_at_the_trial(node, tmp_path, monkeypatch):
    copy = put(tmp_path / "more")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    with node.refuses(f"installed in vain: Python takes it from {copy}, which comes before {node.packages}"):
        node.install(node.deliver())


def test_without_a_trial_a_copy_that_python_takes_instead_is_told_in_the_end(node, tmp_path, monkeypatch):
    copy = put(tmp_path / "more")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    with pytest.raises(
        TorchExtensionError, match=f"is installed in {node.packages}, and Python takes flash_attn from {copy}"
    ):
        node.install(node.deliver(), verify="none")


def test_what_the_variables_of_the_task_lead_to_counts_as_in_a_job(node, tmp_path, monkeypatch):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "einops.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    node.install(node.deliver(files={"flash_attn/__init__.py": "import einops\nV = '2.8.3'\n"}))
    assert node.version() == "2.8.3"


def test_what_was_installed_is_known_by_its_hash_whatever_installed_it(any_node):
    wheel = any_node.deliver(label=LABEL)
    any_node.install(wheel)
    origin = any_node.environment["origins"]["flash-attn"]
    assert origin == {"filename": wheel["filename"], "sha256": wheel["sha256"]}
    rebuilt = {**wheel, "sha256": "0" * 64}
    assert decide_action(rebuilt, any_node.environment, any_node.run).action == "replace"
    installed = find_installed([any_node.packages])["flash-attn"]
    assert not find_damage(installed, reads_all=True)


def test_files_of_another_distribution_are_not_overwritten(node):
    """flash-attn-4 has its files in a folder of flash-attn's, which brings others of the same names (Dao-AILab PR 2310)."""
    kernels = {"flash_attn/cute/__init__.py": "REAL = True\n", "flash_attn/cute/interface.py": ""}
    other = node.deliver(name="flash_attn_4", version="4.0.0b19", files=kernels)
    install(
        [{**other, "name": "flash-attn-4", "imports": ["flash_attn.cute"]}],
        [],
        str(node.folder),
        node.environment,
        node.run,
        "import",
    )
    stubs = {"flash_attn/__init__.py": "V = '2.8.3'\n", "flash_attn/cute/__init__.py": "REAL = False\n"}
    with node.refuses(
        "flash_attn/cute/__init__.py in .* belongs? to flash-attn-4 4.0.0b19.*Uninstall flash-attn-4 first"
    ):
        node.install(node.deliver(files=stubs))
    node.install(node.deliver(files={"flash_attn/__init__.py": "V = '2.8.3'\n"}))
    assert node.version() == "2.8.3"


def test_files_that_another_distribution_has_recorded_too_are_not_removed(node):
    old = node.deliver(
        version="2.8.2", files={"flash_attn/__init__.py": "V = '2.8.2'\n", "flash_attn/cute/__init__.py": ""}
    )
    node.install(old)
    other = build_wheel(
        node.folder, name="flash_attn_4", version="4.0.0b19", files={"flash_attn/cute/__init__.py": "REAL = 1\n"}
    )
    node.run([str(node.venv / "bin/python"), "-m", "pip", "install", "-q", "--no-index", "--no-deps", str(other)])
    with node.refuses("flash_attn/cute/__init__.py in .* flash-attn-4 4.0.0b19"):
        node.install(node.deliver(files={"flash_attn/__init__.py": "V = '2.8.3'\n"}))


@pytest.mark.parametrize("name", ["flash_attn-2.7.3.dist-info", "Flash_Attn-2.9.0.dist-info"])
def test_the_record_of_an_upgrade_that_broke_off_is_cleared_and_the_next_run_changes_nothing(name, node):
    wheel = node.deliver(label=LABEL)
    node.install(wheel)
    stale = Path(node.packages) / name
    stale.mkdir()
    (stale / "METADATA").write_text("Name: flash-attn\n")
    gone, both, foreign = "flash_attn/gone.py", "flash_attn/__init__.py", "../../../elsewhere"
    (Path(node.packages) / gone).touch()
    (stale / "RECORD").write_text("\n".join(f"{path},sha256=x,99" for path in (gone, both, foreign)))
    (node.venv / "elsewhere").touch()
    environment = node.environment
    assert environment["distributions"]["flash-attn"] == "2.8.3"
    assert environment["leftovers"] == [name]
    assert decide_action(wheel, environment, node.run).action == "keep"
    remove_leftovers([wheel], environment)
    assert node.environment["leftovers"] == []
    assert not stale.exists()
    assert not (Path(node.packages) / gone).exists()
    assert (node.venv / "elsewhere").exists()
    assert decide_action(wheel, node.environment, node.run).action == "keep"
    assert node.version() == "2.8.3"


def rename(wheel, path):
    other = path.with_name(path.name.replace("2.8.3", "2.8.4"))
    path.rename(other)
    wheel.update(filename=other.name)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda wheel, path: wheel.update(sha256="0" * 64), "has sha256 .*, wanted is 000"),
        (lambda wheel, path: wheel.update(sha256="none"), "has sha256 .*, wanted is none"),
        (lambda wheel, path: path.unlink(), "cannot be read: No such file"),
        (lambda wheel, path: os.truncate(path, 300), "has sha256"),
        (lambda wheel, path: (os.truncate(path, 300), wheel.update(sha256=None)), "is not a wheel"),
        (lambda wheel, path: wheel.update(filename="../x.tar.gz"), "is not the name of a wheel"),
        (rename, "is not what its name says"),
    ],
    ids=["wrong hash", "no hash", "not delivered", "cut", "cut, hash not known", "no wheel", "another version"],
)
def test_a_bad_delivery_is_refused(spoil, words, any_node, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    wheel = any_node.deliver()
    spoil(wheel, any_node.folder / wheel["filename"])
    with any_node.refuses(words):
        any_node.install(wheel, verify="none")


def test_wheels_come_from_a_folder_of_any_name(make_venv, tmp_path, run):
    node = Node(make_venv(pip=True), tmp_path / "a%20b [c] #sha256=0, \xe9", run)
    wheel = node.deliver(label=LABEL)
    node.install({**wheel, "sha256": wheel["sha256"].upper()})
    assert (node.version(), node.environment["origins"]["flash-attn"]["sha256"]) == ("2.8.3", wheel["sha256"])


def test_a_wheel_for_another_python_is_refused(node):
    with node.refuses("does not fit .*it is for Python cp27"):
        node.install(node.deliver(tags="cp27-none-any"))


@pytest.mark.parametrize("verify", ["import", "none"], ids=["tried out", "at once"])
@pytest.mark.parametrize("climb", ["../../../../../", "/"], ids=["relative", "absolute"])
def test_a_wheel_writes_nothing_outside_of_the_environment(climb, verify, any_node, tmp_path):
    member = climb + (f"{tmp_path}/outside.py".lstrip("/") if climb == "/" else "outside.py")
    wheel = any_node.deliver(extra=[(member, b"")])
    before = {path for path in tree_state(tmp_path) if not path.startswith(str(any_node.venv))}
    with contextlib.suppress(TorchExtensionError):
        any_node.install(wheel, verify=verify)
    assert {path for path in tree_state(tmp_path) if not path.startswith(str(any_node.venv))} == before


def test_the_environment_of_the_operating_system_is_refused(node):
    with node.refuses("belongs to the operating system .*PEP 668.*Make a venv"):
        node.install(node.deliver(), externally_managed=True)


def test_packages_that_cannot_be_written_are_refused(node):
    with node.refuses("has no folder of packages ./proc/none"):
        node.install(node.deliver(), site_packages="/proc/none")


def test_an_environment_without_installer_is_refused(make_venv, tmp_path, run, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    node = Node(make_venv(), tmp_path / "delivered", run)
    with node.refuses("has no pip, and there is no uv in .*-m ensurepip"):
        node.install(node.deliver())


def test_leftovers_of_a_killed_run_are_removed_by_the_next(make_venv, tmp_path, run):
    node = Node(make_venv("odd [name]", pip=True), tmp_path / "delivered", run)
    slow = node.deliver(version="2.8.2", files={"flash_attn/__init__.py": "import time; time.sleep(60)\n"})
    child = os.fork()
    if not child:
        os.setsid()
        with contextlib.suppress(BaseException):
            node.install(slow)
        os._exit(0)
    while not list(Path(node.packages).glob(".torch_extension-*/new/flash_attn/__init__.py")):
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert list(node.venv.rglob(".torch_extension-*"))
    assert node.environment["distributions"]["flash-attn"] is None
    node.install(node.deliver())
    assert list(node.venv.rglob(".torch_extension-*")) == []
    assert node.version() == "2.8.3"


@pytest.mark.parametrize(
    ("files", "action", "words"),
    [
        (None, "keep", "can be imported"),
        (IMPORT_FAILS, "replace", r"cannot be imported (ImportError: undefined symbol: _ZN3c105ErrorC2)"),
    ],
    ids=["works", "broken"],
)
def test_what_was_built_on_the_node_is_kept_if_it_can_be_imported(files, action, words, node):
    wheel = node.deliver(files=files)
    node.install(wheel, verify="none")
    for record in node.venv.rglob("direct_url.json"):
        record.unlink()
    found = decide_action(wheel, node.environment, node.run)
    assert (found.action, words in found.reason) == (action, True)


def test_an_installation_into_another_folder_is_an_error(node):
    def run_elsewhere(command):
        return (0, "", "") if "--target" in command else node.run(command)

    wheel = node.deliver()
    with node.refuses("was installed without an error, but is not in"):
        install([wheel], [], str(node.folder), node.environment, run_elsewhere, "none")


def test_the_errors_of_the_installer_are_in_the_message(node):
    wheel = node.deliver(tags="py3-none-linux_" + node.environment["platform"]["machine"])
    bad = node.folder / wheel["filename"].replace("linux_", "manylinux_9_99_")
    (node.folder / wheel["filename"]).rename(bad)
    with node.refuses("pip of this node could not install .*is not a supported wheel on this platform"):
        node.install({**wheel, "filename": bad.name})


def test_a_partial_installation_is_replaced_though_it_can_be_imported(node):
    wheel = node.deliver()
    node.install(wheel)
    next(node.venv.rglob("direct_url.json")).unlink()  # as it is until the end of an installation
    next(node.venv.rglob("flash_attn/__init__.py")).unlink()
    found = decide_action(wheel, node.environment, node.run)
    assert found == ("replace", "flash-attn 2.8.3 is installed, but flash_attn/__init__.py is missing")
    node.install(wheel)
    assert node.version() == "2.8.3"


@pytest.mark.parametrize("content", [None, b"", bytes(999)], ids=["missing", "empty", "zeroes"])
def test_what_has_lost_its_record_is_replaced_and_whole_again(content, any_node):
    wheel = any_node.deliver(label=LABEL)
    any_node.install(wheel)
    record = next(any_node.venv.rglob("flash_attn-*/RECORD"))
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)
    assert decide_action(wheel, any_node.environment, any_node.run).action == "replace"
    any_node.install(wheel)
    assert not find_damage(find_installed([any_node.packages])["flash-attn"], reads_all=True)
    assert decide_action(wheel, any_node.environment, any_node.run).action == "keep"
    assert any_node.version() == "2.8.3"


@pytest.mark.parametrize("content", [None, b"", bytes(999)], ids=["missing", "empty", "zeroes"])
def test_what_has_lost_its_record_gives_way_to_another_version(content, any_node):
    any_node.install(any_node.deliver(version="2.8.2", files={"flash_attn/__init__.py": "", "flash_attn/old.py": ""}))
    record = next(any_node.venv.rglob("flash_attn-*/RECORD"))
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)
    any_node.install(any_node.deliver())
    assert [path.name for path in any_node.venv.rglob("flash_attn-*.dist-info")] == ["flash_attn-2.8.3.dist-info"]
    assert not find_damage(find_installed([any_node.packages])["flash-attn"], reads_all=True)
    assert any_node.version() == "2.8.3"


def test_folders_that_a_killed_pip_had_renamed_are_removed(node):
    packages = node.venv / "lib" / os.listdir(node.venv / "lib")[0] / "site-packages"
    ours = ["~lash_attn", "~-ash_attn-2.8.2.dist-info", "~.=sh_attn", "~-flash_attn"]
    theirs = ["~orch", "~~rch-2.8.0.dist-info", "~attn", "flash_attn_3"]
    for name in (*ours, *theirs):
        (packages / name).mkdir()
    node.install(node.deliver())
    assert {name for name in (*ours, *theirs) if (packages / name).exists()} == set(theirs)


def test_an_installation_waits_for_a_running_one(node, tmp_path):
    done = tmp_path / "done"
    code = f"import fcntl, os, time; fcntl.flock(os.open({node.packages!r}, os.O_RDONLY), fcntl.LOCK_EX); print(flush=True)"
    code += f"; time.sleep(2); open({str(done)!r}, 'w').close()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        node.install(node.deliver())
        assert done.exists()


SCRIPT = ("flash_attn-2.8.3.data/scripts/attend", b"#!python\n")


@pytest.mark.parametrize(
    ("extra", "happened"),
    [([], ["pip", "unpacked", "import", "query"]), ([SCRIPT], ["pip", "import", "pip", "query"])],
    ids=["renamed into place", "installed once more"],
)
def test_unpacked_is_called_before_the_trial_unless_pip_needs_the_files_again(extra, happened, node):
    order = []

    def run(command):
        order.append(
            "pip" if "install" in command else "import" if "importlib.import_module" in command[3] else "query"
        )
        return node.run(command)

    wheel = node.deliver(extra=extra)
    install([wheel], [], str(node.folder), node.environment, run, "import", unpacked=lambda: order.append("unpacked"))
    assert order == happened
    assert node.version() == "2.8.3"


@pytest.mark.parametrize("extra", [[], [SCRIPT]], ids=["renamed into place", "installed once more"])
def test_what_others_put_in_place_of_a_wheel_once_it_was_hashed_is_not_unpacked(extra, node):
    wheel = node.deliver(extra=extra)
    other = build_wheel(
        node.folder.with_name("other"), extra=extra, files={"flash_attn/__init__.py": "V = 'planted'\n"}
    )

    def run(command):
        if "install" in command:  # whose pip would look at the hash, or uv at nothing
            shutil.copy(other, node.folder / wheel["filename"])
        return node.run(command)

    install([wheel], [], str(node.folder), node.environment, run, "import", copy_first=True)
    assert node.version() == "2.8.3"
    assert not [name for name in os.listdir(node.packages) if name.startswith(".torch_extension-")]


def test_a_wheel_that_others_have_exchanged_is_refused_before_it_is_unpacked(node):
    wheel = node.deliver()
    build_wheel(node.folder, files={"flash_attn/__init__.py": "V = 'planted'\n"})
    with node.refuses("has sha256 .*, wanted is"):
        install([wheel], [], str(node.folder), node.environment, node.run, "import", copy_first=True)


def test_the_delivered_file_may_be_removed_before_the_trial(node):
    wheel = node.deliver()
    path = node.folder / wheel["filename"]
    install([wheel], [], str(node.folder), node.environment, node.run, "import", unpacked=path.unlink)
    assert node.version() == "2.8.3"


@needs_root
@pytest.mark.parametrize(
    "name", ["flash_attn-2.8.3.dist-info", "flash_attn", "flash_attn/__pycache__", ".torch_extension-x"]
)
def test_what_root_has_left_in_a_users_environment_is_told_before_anything_is_brought(name, node, open_folder):
    node.install(node.deliver())
    environment = node.environment
    folder = open_folder / "site"
    shutil.copytree(node.packages, folder, symlinks=True)
    environment["python"].update(prefix=str(open_folder), site_packages=str(folder))
    give(open_folder, OWNER)
    with as_user(OWNER):
        check_environment_can_change(environment)
    (folder / name).mkdir(exist_ok=True)
    os.chown(folder / name, 0, 0)
    words = rf"{folder}/{name} belongs to root, and user {OWNER} cannot .*chown -R {OWNER}: {open_folder}"
    with as_user(OWNER):
        with pytest.raises(TorchExtensionError, match=words):
            check_environment_can_change(environment)
        if name.startswith("."):
            for act in (list_leftovers, remove_leftovers):
                with pytest.raises(TorchExtensionError, match=words):
                    act([], environment)


@needs_root
def test_what_root_installs_into_the_environment_of_another_user_is_that_users(node):
    os.chown(node.packages, 12345, 12346)
    node.install(node.deliver(label=LABEL))
    installed = [*Path(node.packages).glob("flash_attn*"), *Path(node.packages).glob("flash_attn*/**/*")]
    assert len(installed) > 3
    assert {(path.stat().st_uid, path.stat().st_gid) for path in installed} == {(12345, 12346)}
    with node.refuses("belongs to 12345, and this takes more than renames.*become_user"):
        node.install(node.deliver(version="2.8.4", extra=[("flash_attn-2.8.4.data/scripts/attend", b"#!python\n")]))
