# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a refusal says of the known places that have a wheel for the node."""

from __future__ import annotations

import re

import pytest
import yaml
from known_places import MJUN0812, KnownPlaces, node
from servers import running_server

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import Settings, choose_wheel
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import suggestion

ASTRAL = "flash_attn-2.8.3.post1+cu.13.0.torch.2.12-cp312-cp312-manylinux_2_24_x86_64.whl"
COMMUNITY = "flash_attn-2.8.3+cu130torch2.12-cp312-cp312-linux_x86_64.whl"
OWN = (
    "What is left is a wheel of your own: build it on a machine with this Python and torch (pip wheel --no-deps"
    " --no-build-isolation flash-attn), and name its folder, torch_extension_sources: [directory:/PATH]."
)


@pytest.fixture
def places():
    with running_server() as server:
        served = KnownPlaces(server)
        served.nothing_anywhere()
        yield served


@pytest.fixture
def refuse(places, tmp_path, environment):
    """What the refusal says, where no source has a wheel for the node."""

    def refuse(*sources, term="flash-attn", suggest=True, **facts):
        settings = Settings(places.access(tmp_path / "cache", suggest=suggest), sources or ("release",))
        (message,) = choose_wheel(term, node(environment, **facts), settings, strict=False)["conflicts"]
        assert message.startswith(f"No wheel of {term} fits this node: ")
        assert message.endswith(" or another torch on the node.")
        return message

    return refuse


def test_the_places_that_have_a_wheel_are_named_with_who_they_are_and_the_line_to_write(places, refuse):
    places.astral("cu130", ASTRAL)
    places.mjun0812({"v0.9.17": [COMMUNITY]})
    message = refuse()
    assert (
        f"A wheel that fits is at astral (Astral, who make uv; hashes of all files, tested on GPUs): {ASTRAL}."
        in message
    )
    assert (
        "A wheel that fits is at mjun0812 (mjun0812, one person, by public workflows on GitHub; hashes of files since June"
        f" 2025): {COMMUNITY}." in message
    )
    assert "To take the first of them, set torch_extension_sources: [release, astral]." in message
    assert "cosmos" not in message
    assert OWN not in message


def test_the_line_to_write_finds_that_wheel(places, refuse, tmp_path, environment):
    places.astral("cu130", ASTRAL)
    message = refuse(f"directory:{tmp_path}", "release")
    assert "To take it, set " in message
    line = yaml.safe_load(re.search(r"torch_extension_sources: \[.*?\]", message)[0])
    assert line == {"torch_extension_sources": [f"directory:{tmp_path}", "release", "astral"]}
    settings = Settings(places.access(tmp_path / "cache"), sources=line["torch_extension_sources"])
    assert choose_wheel("flash-attn", node(environment), settings)["filename"] == ASTRAL


def test_a_source_that_yaml_would_read_otherwise_is_quoted(places, refuse, tmp_path):
    places.astral("cu130", ASTRAL)
    folder = tmp_path / "it's mine, [all] of it"
    folder.mkdir()
    message = refuse(f"directory:{folder}")
    line = yaml.safe_load(re.search(r"torch_extension_sources: \[.*?astral\]", message)[0])
    assert line == {"torch_extension_sources": [f"directory:{folder}", "astral"]}


def test_only_listings_are_asked(places, refuse):
    places.astral("cu130", ASTRAL)
    places.mjun0812({"v0.9.17": [COMMUNITY]})
    refuse()
    asked = [path for path in places.paths() if not path.endswith(f"{ASTRAL.replace('+', '%2B')}.metadata")]
    assert asked == [
        "/repos/Dao-AILab/flash-attention/releases",
        "/astral/simple/cu130/flash-attn/",
        "/cosmos-dependencies/v1.5.0/flash-attn/",
        *(f"/cosmos-dependencies/{release}simple/flash-attn/" for release in ("v1.4.0/", "v1.2.0/", "v1.1.0/", "")),
        "/repos/unslothai/unsloth/releases/tags/prebuilt-wheels-cu13",
        f"/repos/{MJUN0812}/releases",
    ]


def test_the_next_node_of_that_kind_asks_nobody_again(places, refuse):
    places.astral("cu130", ASTRAL)
    first = refuse()
    asked = len(places.paths())
    assert refuse() == first
    assert len(places.paths()) == asked


def test_nobody_is_asked_where_the_operator_wants_no_suggestion(places, refuse):
    places.astral("cu130", ASTRAL)
    message = refuse(suggest=False)
    assert places.paths() == ["/repos/Dao-AILab/flash-attention/releases"]
    assert "astral" not in message
    assert "What is left" not in message


def test_where_no_place_has_one_the_refusal_says_so_and_names_what_is_left(refuse):
    message = refuse()
    assert f"Of the other known places none has one (astral, cosmos, unsloth, mjun0812). {OWN}" in message
    assert "Knobs: torch_extension_packages (another version)" in message


@pytest.mark.parametrize(
    "sources",
    [
        ("release", "astral"),
        ("astral", "github:Dao-AILab/flash-attention"),
        ("release", "index:{astral}/simple/cu130/flash-attn/", "index:{astral}/simple/cu132/flash-attn"),
    ],
)
def test_what_was_asked_already_is_not_suggested(sources, places, refuse):
    places.astral("cu130", ASTRAL.replace("cp312", "cp313"))
    places.astral("cu132", ASTRAL.replace("cp312", "cp313").replace(".13.0.", ".13.2."))
    message = refuse(*(source.format(**places.urls) for source in sources))
    assert "Of the other known places none has one (cosmos, unsloth, mjun0812)." in message
    assert len(places.paths()) == len(set(places.paths()))


def test_a_repository_that_was_asked_by_its_own_name_is_not_suggested(places, refuse):
    message = refuse("release", f"github:{MJUN0812}", "github:unslothai/unsloth")
    assert "Of the other known places none has one (astral, cosmos)." in message


def test_where_all_places_were_asked_nobody_is_asked_again(places, refuse):
    message = refuse("known")
    assert f"There is no other known place to ask. {OWN}" in message
    assert len(places.paths()) == len(set(places.paths()))


def test_a_place_that_cannot_be_asked_is_named_and_does_not_hide_the_others(places, refuse):
    places.server.serve_body("/astral/simple/cu130/flash-attn/", b"", status=503)
    places.mjun0812({"v0.9.17": [COMMUNITY]})
    message = refuse()
    assert "A wheel that fits is at mjun0812" in message
    assert "To take it, set torch_extension_sources: [release, mjun0812]." in message
    assert re.search(r"astral could not be asked: http://.* was answered with HTTP status 503;", message)


def test_where_no_place_can_be_asked_nothing_is_said_of_what_they_have(places, refuse):
    for path in list(places.server.handlers):
        if "Dao-AILab" not in path:
            places.server.serve_body(path, b"", status=503)
    for name in ("astral", "cosmos"):
        places.urls[name] = "http://127.0.0.1:1"
    message = refuse()
    assert "none has one" not in message
    assert re.findall(r"(\w+) could not be asked", message) == ["astral", "cosmos", "unsloth", "mjun0812"]
    assert OWN in message


def test_a_refusal_does_not_wait_for_ever(places, refuse, monkeypatch):
    monkeypatch.setattr(suggestion, "_PATIENCE_SECONDS", 0.05)
    places.api.delay = 0.1
    message = refuse("astral")
    assert "Of the other known places none has one (release)." in message
    assert "Not asked, for the others took too long: cosmos, unsloth, mjun0812." in message


def test_a_wheel_that_only_the_node_can_judge_is_named_as_such(places, refuse):
    name = "flash_attn_3-3.0.0-cp39-abi3-manylinux_2_28_x86_64.whl"
    places.pytorch("cu130", name, requires={name: "torch>=2.9"})
    message = refuse("astral", term="flash-attn-3")
    assert (
        f"One that may fit is at pytorch (the PyTorch project, on its own index; hashes of most files): {name}. Nothing tells for"
        " which torch it is; the node finds out. To take it, set torch_extension_sources: [astral, pytorch]." in message
    )
    assert not any(path.endswith(".whl") for path in places.paths())


def test_for_a_package_without_releases_the_places_that_publish_it_are_named(places, refuse):
    places.pyg("2.12.0+cu130", "torch_scatter-2.1.2+pt212cu130-cp312-cp312-linux_x86_64.whl")
    message = refuse(term="torch-scatter")
    assert "A wheel that fits is at pyg (the PyG team; no hashes): torch_scatter-2.1.2+pt212cu130" in message
    assert "set torch_extension_sources: [release, pyg]." in message
