# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ensurepip
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from at_once import do_at_once
from kills import kills_at_each_write
from other_users import OWNER, as_user, needs_root
from servers import running_server
from venvs import site_packages
from wheels import LABEL, as_wanted, build_sdist, build_wheel, sha256, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._install.find_links import (
    add_wheels,
    decide_action,
    list_leftovers,
    plan_pip_conf,
    remove_leftovers,
    wheel_folder,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.environment import describe_environment

pytestmark = pytest.mark.slow  # most of them run pip

TAGS = f"cp3{sys.version_info.minor}-cp3{sys.version_info.minor}-linux_{os.uname().machine}"
OTHER_LABEL = "cu12torch2.5cxx11abiFALSE"
KEPT = f"flash_attn-2.8.3-{TAGS}.whl"
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def decide(wheel, environment):
    def run(command):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return decide_action(wheel, environment, run)


@pytest.fixture(autouse=True)
def _no_index(monkeypatch, tmp_path):
    """pip shall read the pip.conf of the environment, and reach no index."""
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "none"))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple/")  # nobody listens there
    monkeypatch.setenv("PIP_RETRIES", "0")


@pytest.fixture
def describe(run):
    return lambda venv: describe_environment(str(venv), ["*"], run, os.environ)[0]


@pytest.fixture
def node(venv, describe):
    return describe(venv)


@pytest.fixture
def deliver(tmp_path):
    def deliver(label=LABEL, tags=TAGS, **wheel):
        text = {"flash_attn/__init__.py": f"LABEL = {label!r}\n"}
        return as_wanted(build_wheel(tmp_path / "delivered", label=label, tags=tags, files=text, **wheel))

    return deliver


@pytest.fixture
def einops(tmp_path):
    return as_wanted(build_wheel(tmp_path / "delivered", name="einops", version="0.8.1"), "einops", "0.8.1")


def delivered(tmp_path):
    return str(tmp_path / "delivered")


def pip_install(venv, *arguments, pip=("-m", "pip")):
    command = [venv / "bin" / "python", *pip, "install", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=venv.parent)


def label_of(venv):
    return subprocess.check_output(
        [venv / "bin/python", "-c", "import flash_attn as f; print(f.LABEL)"], text=True
    ).strip()


def test_a_wheel_is_added_once_under_the_name_that_pip_accepts(node, deliver, einops, tmp_path):
    wheel = deliver()
    assert decide(wheel, node).action == "install"
    add_wheels([wheel], [einops], delivered(tmp_path), node)
    folder = Path(wheel_folder(node))
    assert folder == Path(node["python"]["prefix"]) / "share/airgap.torch_extensions/wheels"
    assert sorted(os.listdir(folder)) == [einops["filename"], "flash-attn.json", KEPT]
    assert sha256(folder / KEPT) == wheel["sha256"]
    assert {oct(path.stat().st_mode)[-3:] for path in folder.iterdir()} == {"644"}
    shutil.rmtree(tmp_path / "delivered")
    for known in (wheel, {**wheel, "sha256": None}, {**wheel, "sha256": wheel["sha256"].upper()}):
        assert decide(known, node).action == "keep"


def bundled_pip():
    """The pip that this Python brings along, mostly an older one than the tests'. It runs from its wheel."""
    wheels = sorted(Path(ensurepip.__path__[0], "_bundled").glob("pip-*.whl"))
    return [pytest.param((str(wheel / "pip"),), id=wheel.name.split("-")[1]) for wheel in wheels[:1]]


@pytest.mark.parametrize("pip", [pytest.param(("-m", "pip"), id="the newest"), *bundled_pip()])
def test_plain_pip_install_takes_the_wheel_and_its_requirements_without_an_index(
    pip, venv, node, deliver, einops, tmp_path
):
    assert pip_install(venv, "flash-attn", pip=pip).returncode != 0
    add_wheels([deliver(requires=["einops"])], [einops], delivered(tmp_path), node)
    done = pip_install(venv, "flash-attn", pip=pip)
    assert done.returncode == 0, done.stderr
    assert f"{wheel_folder(node)}\n" in done.stdout
    assert label_of(venv) == LABEL
    assert list(site_packages(venv).glob("einops-0.8.1.dist-info"))


def test_pip_does_not_take_the_wheel_under_its_original_name(venv, node, deliver, tmp_path):
    wheel = deliver()
    add_wheels([wheel], [], delivered(tmp_path), node)
    folder = Path(wheel_folder(node))
    (folder / KEPT).rename(folder / wheel["filename"])
    assert pip_install(venv, "flash-attn").returncode != 0


def test_the_wheel_goes_before_the_sdist_of_the_same_version_on_an_index(venv, node, deliver, tmp_path, monkeypatch):
    build_sdist(tmp_path / "index")
    with running_server() as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.serve_index(tmp_path / "index"))
        without = pip_install(venv, "flash-attn")
        assert "setup.py was run" in without.stdout + without.stderr
        add_wheels([deliver()], [], delivered(tmp_path), node)
        for requirement in ("flash-attn==2.8.3", "flash-attn"):
            done = pip_install(venv, "--force-reinstall", requirement)
            assert done.returncode == 0, done.stderr
        assert server.requests.count("/files/flash_attn-2.8.3.tar.gz") == 1
        build_sdist(tmp_path / "index", version="2.8.4")
        server.serve_index(tmp_path / "index")
        newer = pip_install(venv, "--force-reinstall", "flash-attn")
        assert "setup.py was run" in newer.stdout + newer.stderr, "a newer version wins, as the docs say"


@pytest.mark.skipif(UV is None, reason="there is no uv")
def test_uv_takes_the_wheel_only_if_the_folder_is_named_to_it(venv, node, deliver, einops, tmp_path, monkeypatch):
    add_wheels([deliver(requires=["einops"])], [einops], delivered(tmp_path), node)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    command = [UV, "pip", "install", "--python", venv, "flash-attn"]

    def install(*options, **variables):
        done = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, **variables},
        )
        return done.returncode

    assert install("--offline") != 0, "uv reads the environment's settings now: say so in the docs, and make use of it"
    assert install("--no-index", "--find-links", wheel_folder(node)) == 0
    assert label_of(venv) == LABEL
    assert install("--reinstall", UV_FIND_LINKS=wheel_folder(node), UV_OFFLINE="1") == 0


def test_each_environment_of_a_machine_has_its_own_folder(make_venv, describe, deliver, tmp_path):
    venvs = {label: make_venv(label, pip=True) for label in (LABEL, OTHER_LABEL)}
    for label, venv in venvs.items():
        add_wheels([deliver(label)], [], delivered(tmp_path), describe(venv))
    for label, venv in venvs.items():
        assert pip_install(venv, "flash-attn").returncode == 0
        assert label_of(venv) == label
        assert decide(deliver(label), describe(venv)).action == "keep"


def test_the_wheel_of_another_torch_is_replaced_though_pip_knows_it_by_the_same_name(venv, node, deliver, tmp_path):
    before, after = deliver(OTHER_LABEL), deliver()
    add_wheels([before], [], delivered(tmp_path), node)
    action = decide(after, node)
    assert (action.action, before["filename"] in action.reason) == ("replace", True)
    add_wheels([after], [], delivered(tmp_path), node)
    assert decide(after, node).action == "keep"
    assert pip_install(venv, "flash-attn").returncode == 0
    assert label_of(venv) == LABEL


def test_other_wheels_of_the_distribution_are_removed(node, deliver, tmp_path):
    add_wheels([deliver(version="2.8.4"), deliver(name="causal-conv1d")], [], delivered(tmp_path), node)
    wheel = deliver()
    add_wheels([wheel], [], delivered(tmp_path), node)
    wheels = sorted(entry for entry in os.listdir(wheel_folder(node)) if entry.endswith(".whl"))
    assert wheels == [f"causal_conv1d-2.8.3-{TAGS}.whl", KEPT]
    shutil.copy(Path(wheel_folder(node)) / KEPT, Path(wheel_folder(node)) / "flash_attn-2.8.2-py3-none-any.whl")
    action = decide(wheel, node)
    assert (action.action, "flash_attn-2.8.2" in action.reason) == ("replace", True)


@pytest.mark.parametrize("spoil", ["wheel", "requirement", "record", "hash", "path", "setting"])
def test_a_damaged_folder_is_repaired(spoil, node, deliver, einops, tmp_path):
    wheel = deliver()
    add_wheels([wheel], [einops], delivered(tmp_path), node)
    folder = Path(wheel_folder(node))
    record = folder / "flash-attn.json"
    if spoil == "wheel":
        os.truncate(folder / KEPT, 100)
    elif spoil == "requirement":
        (folder / einops["filename"]).unlink()
    elif spoil == "record":
        record.write_text("[]")
    elif spoil == "hash":
        record.write_text(json.dumps({**json.loads(record.read_text()), "sha256": "0" * 64}))
    elif spoil == "path":
        record.write_text(json.dumps({**json.loads(record.read_text()), "file": "../../x-1-py3-none-any.whl"}))
    else:
        Path(plan_pip_conf(node).path).unlink()
    assert decide(wheel, node).action in ("install", "replace")
    add_wheels([wheel], [einops], delivered(tmp_path), node)
    assert decide(wheel, node).action == "keep"


def test_the_wheel_of_a_requirement_that_was_installed_since_is_not_needed(node, deliver, einops, tmp_path):
    wheel = deliver()
    add_wheels([wheel], [einops], delivered(tmp_path), node)
    (Path(wheel_folder(node)) / einops["filename"]).unlink()
    node["distributions"]["einops"] = "0.6"
    assert decide(wheel, node).action == "keep"


def test_a_label_that_is_in_the_metadata_too_stays_in_the_name(venv, node, deliver, tmp_path):
    wheel = deliver(metadata_version=f"2.8.3+{LABEL}")
    add_wheels([wheel], [], delivered(tmp_path), node)
    assert wheel["filename"] in os.listdir(wheel_folder(node))
    assert pip_install(venv, "flash-attn==2.8.3").returncode == 0
    assert label_of(venv) == LABEL


def test_other_settings_of_pip_conf_stay(venv, node, deliver, tmp_path):
    conf = venv / "pip.conf"
    conf.write_text(f"# ours\n[global]\nno-index = true\nfind-links = {tmp_path}\n")
    conf.chmod(0o640)
    add_wheels([deliver()], [], delivered(tmp_path), node)
    assert conf.read_text() == f"# ours\n[global]\nno-index = true\nfind-links = {tmp_path}\n    {wheel_folder(node)}\n"
    assert oct(conf.stat().st_mode)[-3:] == "640"
    done = pip_install(venv, "flash-attn")
    assert (done.returncode, f"Looking in links: {tmp_path}, {wheel_folder(node)}\n" in done.stdout) == (0, True)


@pytest.mark.parametrize("section", ["global", "install"])
def test_the_find_links_of_the_user_stay_in_effect(section, venv, node, deliver, home, tmp_path):
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(f"[{section}]\nfind-links = {tmp_path}\n")
    add_wheels([deliver()], [], delivered(tmp_path), node)
    done = pip_install(venv, "flash-attn")
    assert (done.returncode, f"Looking in links: {tmp_path}, {wheel_folder(node)}\n" in done.stdout) == (0, True)
    assert plan_pip_conf(node).before == plan_pip_conf(node).after


def test_credentials_are_neither_copied_to_another_file_nor_shown(venv, node, deliver, home, tmp_path):
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text("[global]\nfind-links = https://me:secret@links.example/\n")
    (venv / "pip.conf").write_text("[global]\nindex-url = https://me:secret@index.example/\n")
    before = tree_state(venv)
    with pytest.raises(TorchExtensionError, match="hold credentials in another file") as refused:
        add_wheels([deliver()], [], delivered(tmp_path), node)
    assert "secret" not in str(refused.value)
    assert tree_state(venv) == before
    (venv / "pip.conf").write_text("[global]\nfind-links = https://me:secret@links.example/\n")
    change = plan_pip_conf(node)
    assert "me:secret@" in change.after
    assert "secret" not in str(change.diff())


def test_a_pip_conf_that_is_a_symbolic_link_stays_one(venv, node, deliver, tmp_path):
    (tmp_path / "real.conf").write_text("[global]\ntimeout = 3\n")
    (venv / "pip.conf").symlink_to(tmp_path / "real.conf")
    add_wheels([deliver()], [], delivered(tmp_path), node)
    assert (venv / "pip.conf").is_symlink()
    assert wheel_folder(node) in (tmp_path / "real.conf").read_text()


def test_a_path_with_a_space_is_found_by_pip(make_venv, describe, deliver, tmp_path):
    venv = make_venv("my venv%", pip=True)
    node = describe(venv)
    wheel = deliver()
    add_wheels([wheel], [], delivered(tmp_path), node)
    assert decide(wheel, node).action == "keep"
    assert pip_install(venv, "flash-attn").returncode == 0


@pytest.mark.parametrize("spoil", ["hash", "file", "tags", "settings"])
def test_a_bad_delivery_leaves_everything_as_it_was(spoil, venv, node, deliver, tmp_path):
    add_wheels([deliver(OTHER_LABEL)], [], delivered(tmp_path), node)
    wheel = deliver(tags="cp27-cp27m-linux_x86_64") if spoil == "tags" else deliver()
    if spoil == "hash":
        wheel["sha256"] = "0" * 64
    elif spoil == "file":
        os.unlink(os.path.join(delivered(tmp_path), wheel["filename"]))
    elif spoil == "settings":
        (venv / "pip.conf").write_text("nonsense\n")
    before = tree_state(tmp_path)
    with pytest.raises(TorchExtensionError, match=r"sha256|cannot be read|does not fit|pip cannot read"):
        add_wheels([wheel], [], delivered(tmp_path), node)
    assert tree_state(tmp_path) == before


def test_the_python_of_the_operating_system_is_refused(venv, node, deliver, tmp_path):
    node["python"]["externally_managed"] = True
    wheel = deliver()
    before = tree_state(venv)
    for act in (lambda: decide(wheel, node), lambda: add_wheels([wheel], [], delivered(tmp_path), node)):
        with pytest.raises(TorchExtensionError, match=r"EXTERNALLY-MANAGED, PEP 668.*Make a venv"):
            act()
    assert tree_state(venv) == before


def test_an_environment_of_another_user_is_refused(node, deliver, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(TorchExtensionError, match=r"may not write to it"):
        decide(deliver(), node)


@needs_root
@pytest.mark.parametrize("name", ["share", "pip.conf"])
def test_root_follows_no_link_out_of_the_environment_of_another_user(name, node, deliver, open_folder, tmp_path):
    """Else that user could have root make a file, and be given it, wherever he likes."""
    node["python"]["prefix"] = str(open_folder)
    target = tmp_path / name
    target.mkdir() if name == "share" else None
    (open_folder / name).symlink_to(target)
    os.chown(open_folder, OWNER, OWNER)
    wheel, before = deliver(), tree_state(tmp_path)
    words = rf"{open_folder}/{name}.* leads to {target}.*Set become: true and become_user: {OWNER}"
    for act in (lambda: decide(wheel, node), lambda: add_wheels([wheel], [], delivered(tmp_path), node)):
        with pytest.raises(TorchExtensionError, match=words):
            act()
    assert {path: what for path, what in tree_state(tmp_path).items() if path in before} == before
    assert os.listdir(open_folder) == [name]


@pytest.mark.parametrize("act", ["look", "add"])
def test_no_file_is_made_where_a_link_leads_to_nothing(act, node, deliver, tmp_path):
    link = Path(node["python"]["prefix"]) / "pip.conf"
    link.symlink_to(tmp_path / "planted")
    wheel = deliver()
    with pytest.raises(TorchExtensionError, match=rf"{link} is a link to {tmp_path}/planted, which does not exist"):
        decide(wheel, node) if act == "look" else add_wheels([wheel], [], delivered(tmp_path), node)
    assert not (tmp_path / "planted").exists()


@needs_root
@pytest.mark.parametrize("name", ["share", "pip.conf"])
def test_what_root_has_left_in_a_users_environment_is_told_before_anything_is_brought(name, node, deliver, open_folder):
    node["python"]["prefix"] = str(open_folder)
    path = open_folder / name
    path.write_text("[install]\n") if name == "pip.conf" else path.mkdir()
    os.chown(open_folder, OWNER, OWNER)
    path.chmod(0o600 if name == "pip.conf" else 0o755)
    wheel = deliver()
    with (
        as_user(OWNER),
        pytest.raises(
            TorchExtensionError, match=rf"{path}(, which)? belongs to root.*chown (-R )?{OWNER}: {open_folder}"
        ),
    ):
        decide(wheel, node)


@needs_root
def test_files_that_root_adds_belong_to_the_owner_of_the_environment(venv, node, deliver, tmp_path):
    os.chown(venv, 12345, 12346)
    add_wheels([deliver()], [], delivered(tmp_path), node)
    made = [venv / "pip.conf", venv / "share", *(venv / "share").rglob("*")]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12345, 12346)}


def test_a_full_disk_leaves_no_half_written_file(venv, node, deliver, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        add_wheels([deliver()], [], delivered(tmp_path), node)
    assert os.listdir(wheel_folder(node)) == []
    assert not (venv / "pip.conf").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("no-binary = :all:", "no-binary = :all:"),
        ("constraint = {tmp}/constraints.txt", "constraint = .*constraints.txt"),
        ("require-hashes = true", "require-hashes = true"),
        ("user = true", "user = true"),
    ],
    ids=["no-binary", "constraint", "require-hashes", "user"],
)
def test_settings_with_which_pip_would_not_take_the_wheel_are_told_before_it_is_there(
    setting, words, venv, node, deliver, tmp_path
):
    wheel = deliver()
    (tmp_path / "constraints.txt").write_text("flash-attn<2.8\n")
    (venv / "pip.conf").write_text(f"[install]\n{setting.format(tmp=tmp_path)}\n")
    shutil.rmtree(tmp_path / "delivered")
    before = tree_state(venv)
    with pytest.raises(
        TorchExtensionError, match=rf"pip [0-9.]+ of this node would not install flash-attn 2.8.3.*{words}"
    ):
        decide(wheel, node)
    assert tree_state(venv) == before
    (venv / "pip.conf").write_text("[install]\nprefer-binary = true\n")
    assert decide(wheel, node).action == "install"


def test_an_old_pip_is_asked_by_what_it_has(venv, describe, deliver):
    """Without --dry-run, which came with 22.2."""
    for path in (site_packages(venv)).glob("pip*"):
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    installed = subprocess.run(
        ["uv", "pip", "install", "-q", "--python", venv / "bin/python", "pip==22.0.4", "setuptools"], check=False
    )
    if installed.returncode:
        pytest.skip("no index to have pip 22.0.4 from")
    wheel = deliver()
    assert decide(wheel, describe(venv)).action == "install"
    (venv / "pip.conf").write_text("[global]\nno-binary = flash-attn\n")
    with pytest.raises(TorchExtensionError, match=r"pip 22.0.4 of this node would not install.*no-binary = flash-attn"):
        decide(wheel, describe(venv))


def test_where_there_is_uv_alone_it_is_asked(make_venv, describe, deliver, tmp_path, monkeypatch):
    venv = make_venv("bare")
    wheel = deliver()
    assert decide(wheel, describe(venv)).action == "install"
    (tmp_path / "constraints.txt").write_text("flash-attn<2.8\n")
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "constraints.txt"))
    with pytest.raises(TorchExtensionError, match=r"uv of this node would not install flash-attn 2.8.3"):
        decide(wheel, describe(venv))


def test_of_two_at_once_the_later_one_stays_whole(node, deliver, venv, tmp_path):
    """Each removes the wheel of the other: without a lock both may be gone."""
    wheels = [deliver(), deliver(label=OTHER_LABEL)]
    folder, ours = str(tmp_path / "delivered"), Path(wheel_folder(node))
    for _round in range(5):
        do_at_once(*(partial(add_wheels, [wheel], [], folder, node) for wheel in wheels * 2))
        (kept,) = ours.glob("*.whl")
        record = json.loads((ours / "flash-attn.json").read_text())
        assert record["sha256"] == sha256(kept)
        assert sorted(os.listdir(ours)) == ["flash-attn.json", KEPT]


def test_an_installation_waits_for_a_running_one(node, deliver, venv, tmp_path):
    done = tmp_path / "done"
    code = f"import fcntl, os, time; fcntl.flock(os.open({str(venv)!r}, os.O_RDONLY), fcntl.LOCK_EX); print(flush=True)"
    code += f"; time.sleep(2); open({str(done)!r}, 'w').close()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        add_wheels([deliver()], [], str(tmp_path / "delivered"), node)
        assert done.exists()


def test_killed_at_any_write_the_next_run_leaves_nothing_behind(node, deliver, einops, venv, tmp_path):
    wheel, folder = deliver(), str(tmp_path / "delivered")
    before, seen = tree_state(venv), set()
    add_wheels([wheel], [einops], folder, node)
    whole = tree_state(venv).keys()
    shutil.rmtree(venv / "share")
    (venv / "pip.conf").unlink()
    for _changes in kills_at_each_write(lambda: add_wheels([wheel], [einops], folder, node)):
        left = list_leftovers([wheel], node)
        seen.update(left)
        assert remove_leftovers([wheel], node) == left
        add_wheels([wheel], [einops], folder, node)
        assert tree_state(venv).keys() == whole
        shutil.rmtree(venv / "share")
        (venv / "pip.conf").unlink()
        assert tree_state(venv) == before
    assert {str(Path(path).parent) for path in seen} == {str(venv), wheel_folder(node)}
