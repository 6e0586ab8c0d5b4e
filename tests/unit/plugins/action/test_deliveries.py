# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ways other than Ansible's own connection: what is mounted at /dev/shm stands for what nodes share, the server is real."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from binaries import read_facts
from nodes import extension_wheel
from servers import running_server, tls_context
from shells import mount_point
from venvs import site_packages
from wheels import LABEL, as_wanted, build_wheel, sha256, tree_state

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.staging import part_name
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.slurm import name_writer
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import File

COPIED = {"way": "copy", "sent": True}


@pytest.fixture
def stage(home):
    return home / "stage"


@pytest.fixture
def wheel(shelf):
    return build_wheel(shelf, label=LABEL)


@pytest.fixture(params=["same size", "another size"])
def namesake(wheel, request, tmp_path):
    """Another wheel of the same name, for nodes of another kind."""
    padding = 0 if request.param == "same size" else 100
    files = {"flash_attn/__init__.py": f"V = '8.2.3'\n{'#' * padding}"}
    namesake = build_wheel(tmp_path / "cu130", label=LABEL, files=files)
    assert (namesake.name, sha256(namesake) != sha256(wheel)) == (wheel.name, True)
    assert (namesake.stat().st_size == wheel.stat().st_size) == (request.param == "same size")
    return namesake


@pytest.fixture
def path(wheel):
    """Of the wheel on a server."""
    return f"/wheels/{quote(wheel.name)}"


@pytest.fixture
def deliver(on_node, make_venv, wheel, stage):
    """Brings the wheel to a node, which is an environment of its own, and installs it."""

    def deliver(ways, node="venv", venv=None, **more):
        own = {
            name: more.pop(name)
            for name in ("served", "wheels", "files", "facts", "cache_dir")
            if more.get(name) is not None
        }
        wanted = more.pop("wanted", None) or as_wanted(wheel)
        more.pop("served", None)
        arguments = {
            "python": str(venv or make_venv(node, pip=True)),
            "folder": str(stage) if "slurm" in ways else "~/stage",
            "keep_files": False,
            "wheels": [wanted],
            "files": [str(wheel)],
            "delivery": {"ways": ways, **more},
            **own,
        }
        return on_node("torch_extension", **arguments)

    return deliver


def output_with_warning(done):
    """What was said; ansible breaks the lines of warnings."""
    assert "[WARNING]: " in done["output"]
    return " ".join(done["output"].split())


def is_installed(venv):
    return (site_packages(venv) / "flash_attn/__init__.py").exists()


def module_text(venv):
    return (site_packages(venv) / "flash_attn/__init__.py").read_text()


def test_the_first_node_writes_to_the_shared_folder_and_the_second_only_reads(deliver, wheel, shared, stage, tmp_path):
    folder = f"{shared}/airgap.torch_extensions"
    first, second = (deliver("shared", node, shared_dir=str(shared)) for node in ("one", "other"))
    for done, node in ((first, "one"), (second, "other")):
        assert (done["failed"], done["changed"]) == (False, True), done["output"]
        assert f"brought by: shared, {folder}" in done["report"]
        assert "WARNING" not in done["output"]
        assert is_installed(tmp_path / node)
    file_system = first["delivery"].pop("file_system")
    assert first["delivery"] == {"way": "shared", "folder": folder, "sent": True}
    assert second["delivery"] == {"way": "shared", "folder": folder, "sent": False, "file_system": file_system}
    assert sorted(os.listdir(folder)) == sorted([".id", sha256(wheel)[:16]])
    assert os.listdir(f"{folder}/{sha256(wheel)[:16]}") == [wheel.name]
    assert not stage.exists()


def test_two_kinds_of_nodes_share_a_file_system_with_two_wheels_of_one_name(deliver, namesake, shared, make_venv):
    one, other, late = (make_venv(name, pip=True) for name in ("one", "other", "late"))
    wanted = {"wanted": as_wanted(namesake), "files": [str(namesake)]}
    delivered = [
        deliver("shared", venv=one, shared_dir=str(shared)),
        deliver("shared", venv=other, shared_dir=str(shared), **wanted),
        deliver("shared", venv=late, shared_dir=str(shared)),
    ]
    assert [(done["failed"], done["delivery"]["sent"]) for done in delivered] == [
        (False, True),
        (False, True),
        (False, False),
    ]
    assert [module_text(venv) == module_text(one) for venv in (other, late)] == [False, True]


def test_of_nodes_that_come_at_the_same_time_one_writes(deliver, make_venv, shared, tmp_path):
    venvs = [make_venv(f"node{number}", pip=True) for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda venv: deliver("shared", venv=venv, shared_dir=str(shared)), venvs))
    assert [each["failed"] for each in done] == [False] * 3
    assert sorted(each["delivery"]["sent"] for each in done) == [False, False, True]
    assert all(map(is_installed, venvs))


def test_a_node_without_the_shared_folder_is_an_error(deliver, make_venv, shared, stage):
    venv = make_venv(pip=True)
    before = tree_state(venv)
    failed = deliver("shared", venv=venv, shared_dir=f"{shared}/none")
    assert failed["failed"]
    assert failed["msg"].startswith(
        f"shared does not serve node: The shared folder {shared}/none cannot be used on this node: "
    )
    assert "or torch_extension_delivery to another way, such as copy." in failed["msg"]
    assert (tree_state(venv), stage.exists(), list(shared.iterdir())) == (before, False, [])


def test_a_node_without_the_shared_folder_is_served_by_copy_if_that_is_the_next_way(deliver, shared, stage):
    done = deliver(["shared", "copy"], shared_dir=f"{shared}/none")
    assert (done["failed"], done["changed"]) == (False, True), done["output"]
    assert done["delivery"] == {**COPIED, "folder": str(stage)}
    assert "[WARNING]: shared does not serve node: The shared folder" in output_with_warning(done)
    assert not any(line.startswith("brought by") for line in done["report"])
    assert not stage.exists()


def test_a_shared_folder_on_the_nodes_own_disk_is_not_used(deliver, stage, tmp_path):
    if mount_point(tmp_path) != "/":
        pytest.skip("the folder of the tests is mounted")
    done = deliver(["shared", "copy"], shared_dir=str(tmp_path))
    assert done["delivery"]["way"] == "copy"
    assert "nothing is mounted there" in output_with_warning(done)


def test_if_no_way_serves_the_message_has_all_reasons(deliver, shared, server, path):
    server.serve_body(path, b"", status=403)
    failed = deliver(["shared", "pull"], shared_dir=f"{shared}/none", pull_url=f"{server.url}/wheels")
    assert failed["failed"]
    first, second = failed["msg"].splitlines()
    assert first.startswith("shared does not serve node: ")
    assert second.startswith("pull does not serve node: ")
    assert "is refused to this node (403 Forbidden)" in second


def test_a_file_that_the_server_lacks_is_uploaded_once_and_all_nodes_download_it(
    deliver, wheel, server, path, stage, tmp_path
):
    url = server.accept_uploads("/wheels/")
    first, second = (deliver("pull", node, pull_url=url) for node in ("one", "other"))
    for done, node in ((first, "one"), (second, "other")):
        assert (done["failed"], done["changed"]) == (False, True), done["output"]
        assert f"brought by: pull, {url}" in done["report"]
        assert is_installed(tmp_path / node)
    delivery = {"way": "pull", "folder": str(stage), "url": url}
    assert (first["delivery"], second["delivery"]) == ({**delivery, "sent": True}, {**delivery, "sent": False})
    assert server.request_lines() == [f"{method} {path}" for method in ("GET", "HEAD", "PUT", "GET", "GET")]
    assert server.read(path) == wheel.read_bytes()
    assert not stage.exists()


def test_a_file_that_the_operator_has_put_on_the_server_is_downloaded(deliver, wheel, server, path):
    server.serve_file(path, wheel.read_bytes())
    done = deliver("pull", pull_url=f"{server.url}/wheels")
    assert (done["failed"], done["delivery"]["sent"]) == (False, False), done["output"]
    assert server.request_lines() == [f"GET {path}"]


def test_nodes_get_the_certificates_of_the_sites_ca_and_no_key(deliver, certificate):
    with running_server(tls_context(certificate)) as server:
        done = deliver("pull", pull_url=server.accept_uploads("/wheels/"), pull_ca_path=str(certificate))
    assert (done["failed"], done["delivery"]["sent"]) == (False, True), done["output"]
    assert "PRIVATE KEY" in certificate.read_text()
    assert "PRIVATE KEY" not in done["output"]


def test_a_ca_file_without_certificates_is_an_error_of_this_way(deliver, server, tmp_path):
    (tmp_path / "ca.der").write_bytes(b"\x30\x82\xff\xfe")
    done = deliver(["pull", "copy"], pull_url=f"{server.url}/wheels", pull_ca_path=str(tmp_path / "ca.der"))
    assert done["delivery"]["way"] == "copy"
    assert "torch_extension_pull_ca_path has no certificates (PEM" in output_with_warning(done)


def test_if_the_server_refuses_the_upload_the_next_way_is_taken(deliver, server, path, stage):
    done = deliver(["pull", "copy"], pull_url=server.accept_uploads("/wheels/", status=507))
    assert done["delivery"] == {**COPIED, "folder": str(stage)}
    assert "does not take flash_attn" in output_with_warning(done)
    assert "(507 Insufficient Storage). It has no room." in output_with_warning(done)


def test_a_server_that_does_not_return_an_uploaded_file_is_an_error(deliver, server):
    def swallow(handler):
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.send_response(201)
        handler.end_headers()

    server.upload_handlers["/wheels/"] = swallow
    failed = deliver("pull", pull_url=f"{server.url}/wheels/")
    assert failed["failed"]
    assert "/wheels/ took flash_attn" in failed["msg"]
    assert "and does not give it to this node. It is to be the same folder for both." in failed["msg"]


def test_another_file_on_the_server_is_an_error_and_leaves_nothing_on_the_node(deliver, wheel, server, path, stage):
    server.serve_file(path, bytes(wheel.stat().st_size))
    failed = deliver("pull", pull_url=f"{server.url}/wheels")
    assert f"wanted is {as_wanted(wheel)['sha256']}: it is another file" in failed["msg"]
    assert not stage.exists() or os.listdir(stage) == []


def test_two_kinds_of_nodes_that_want_two_wheels_of_one_name_need_two_folders_of_the_server(
    deliver, wheel, namesake, server, make_venv
):
    one, other = (make_venv(name, pip=True) for name in ("one", "other"))
    url = server.accept_uploads("/wheels/")
    assert not deliver("pull", venv=one, pull_url=url)["failed"]
    wanted = {"wanted": as_wanted(namesake), "files": [str(namesake)]}
    failed = deliver("pull", venv=other, pull_url=url, **wanted)
    assert "it is another file. If no node wants that one" in failed["msg"]
    assert "set torch_extension_pull_url for this node, and all of its kind, to another folder" in failed["msg"]
    done = deliver("pull", venv=other, pull_url=server.accept_uploads("/cu130/"), **wanted)
    assert (done["failed"], done["delivery"]["sent"]) == (False, True), done["output"]
    assert module_text(one) != module_text(other)


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (None, "Nobody has asked Slurm for it (wheel_broadcast). Set torch_extension_delivery to copy."),
        ({"reason": "Slurm on login has node as down."}, "Slurm on login has node as down."),
        ({"reason": None}, "Slurm's job went well, and flash_attn"),
    ],
    ids=["not asked", "refused", "not there"],
)
def test_files_that_slurm_has_not_brought_are_copied_if_that_is_the_next_way(served, words, deliver, stage):
    done = deliver(["slurm", "copy"], slurm_host="login", served=served)
    assert (done["failed"], done["delivery"]) == (False, {**COPIED, "folder": str(stage)})
    assert f"slurm does not serve node: {words}" in output_with_warning(done)


def test_parts_of_a_failed_job_are_removed_and_nothing_that_another_run_has_brought(deliver, wheel, stage, tmp_path):
    digest, cache = sha256(wheel), tmp_path / "cache"
    own = File(str(wheel), digest, writer=name_writer(str(cache / "locks"))).part
    others = sorted([wheel.name, part_name(wheel.name, digest)])
    stage.mkdir(mode=0o700)
    for name in (own, *others):
        (stage / name).write_bytes(b"half of it")
    served = {"reason": "Slurm on login has node as down."}
    done = deliver("slurm", slurm_host="login", served=served, cache_dir=str(cache))
    assert (done["failed"], done["msg"]) == (True, "slurm does not serve node: Slurm on login has node as down.")
    assert sorted(os.listdir(stage)) == others


@pytest.mark.parametrize("way", ["copy", "shared", "pull"])
def test_what_a_power_cut_has_left_where_wheels_are_brought_to_is_brought_again(
    way, deliver, wheel, stage, shared, server, path, tmp_path
):
    if way == "pull":
        server.serve_body(path, wheel.read_bytes())
    place = shared / "airgap.torch_extensions" / sha256(wheel)[:16] if way == "shared" else stage
    place.mkdir(parents=True, mode=0o700)
    place.parent.chmod(0o700)
    (place / wheel.name).write_bytes(bytes(wheel.stat().st_size))
    done = deliver(way, shared_dir=str(shared), pull_url=f"{server.url}/wheels")
    assert (done["failed"], done["changed"], done["delivery"]["way"]) == (False, True, way), done["output"]
    assert is_installed(tmp_path / "venv")
    if way == "shared":
        assert sha256(place / wheel.name) == sha256(wheel)


def test_a_wheel_that_slurm_brought_and_that_does_not_fit_is_removed(deliver, venv, torch_libraries, shelf, stage):
    wheel = extension_wheel(shelf, torch_libraries, "2.6", serves=False)
    facts = read_facts(shelf.with_name("compiled") / "2.6.so", "flash_attn_2_cuda.so", filename=wheel.name)
    stage.mkdir(mode=0o700)
    (stage / wheel.name).write_bytes(wheel.read_bytes())
    brought = {"wheels": [as_wanted(wheel)], "files": [str(wheel)], "facts": {sha256(wheel): facts}, "venv": venv}
    done = deliver("slurm", slurm_host="login", served={"reason": None}, **brought)
    assert (done["failed"], "does not fit" in done["msg"]) == (True, True), done["output"]
    assert not stage.exists()


def test_a_wheel_that_slurm_brought_is_installed(deliver, wheel, stage):
    stage.mkdir(mode=0o700)
    (stage / wheel.name).write_bytes(wheel.read_bytes())
    done = deliver("slurm", slurm_host="login", served={"reason": None})
    assert (done["failed"], done["changed"]) == (False, True), done["output"]
    assert f"brought by: slurm, {stage}" in done["report"]
    assert not stage.exists()


def test_ways_other_than_copy_need_a_known_hash(deliver, wheel, server):
    wanted = {name: value for name, value in as_wanted(wheel).items() if name != "sha256"}
    done = deliver(["pull", "copy"], pull_url=f"{server.url}/wheels", wanted=wanted)
    assert (done["failed"], done["delivery"]["way"]) == (False, "copy"), done["output"]
    assert "[WARNING]: pull does not serve node: It wants files whose sha256 is known." in output_with_warning(done)
    assert server.requests == []


def test_a_wrong_delivery_is_an_error_before_anything_is_done(deliver, stage):
    failed = deliver("shared")
    assert "torch_extension_delivery is shared, and torch_extension_shared_dir is empty." in failed["msg"]
    assert not stage.exists()
