# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The known places, each with pages in its own form."""

from __future__ import annotations

import pytest
from github_server import release
from known_places import MJUN0812, KnownPlaces, digest, node
from servers import running_server

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import grammars
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import Settings, choose_wheel
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.places import PLACES
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import (
    KNOWN,
    check_place_urls,
    expand_source,
    parse_source,
)

X86_64 = "manylinux_2_24_x86_64"
AARCH64 = "manylinux_2_24_aarch64"
FA3 = "flash_attn_3-3.0.0-cp39-abi3-manylinux_2_28_x86_64.whl"


@pytest.fixture
def places():
    with running_server() as server:
        yield KnownPlaces(server)


@pytest.fixture
def find(places, tmp_path, environment):
    """What the lookup answers for a node, with places for sources."""

    def find(term, *sources, strict=True, **facts):
        settings = Settings(places.access(tmp_path / "cache"), sources)
        return choose_wheel(term, node(environment, **facts), settings, strict)

    return find


def astral_names(torch, cuda, pythons=("cp312-cp312",), version="2.8.3.post1", name="flash_attn"):
    return [
        f"{name}-{version}+cu.{cuda}.torch.{torch}-{python}-{platform}.whl"
        for python in pythons
        for platform in (X86_64, AARCH64)
    ]


# -- Astral


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, f"flash_attn-2.8.3.post1+cu.13.0.torch.2.12-cp312-cp312-{X86_64}.whl"),
        ({"machine": "aarch64"}, f"flash_attn-2.8.3.post1+cu.13.0.torch.2.12-cp312-cp312-{AARCH64}.whl"),
        ({"torch": "2.9.1+cu130"}, f"flash_attn-2.8.3.post1+cu.13.0.torch.2.9-cp312-cp312-{X86_64}.whl"),
        ({"python": "cp314"}, f"flash_attn-2.8.3.post1+cu.13.0.torch.2.12-cp314-cp314-{X86_64}.whl"),
    ],
)
def test_astrals_wheel_for_a_node_is_found(facts, expected, places, find):
    names = [
        *astral_names("2.9", "13.0"),
        *astral_names("2.12", "13.0", ("cp312-cp312", "cp314-cp314")),
        *astral_names("2.9", "13.0", version="2.8.3"),
    ]
    places.astral("cu130", *names, requires={expected: f"torch=={expected.split('torch.')[1].split('-')[0]}.*"})
    answer = find("flash-attn", "astral", **facts)
    assert (answer["filename"], answer["source"], answer["size"]) == (expected, "astral", 5002)
    assert answer["sha256"] == digest(expected)
    assert answer["url"].endswith(f"/artifacts/{digest(expected)}/{expected.replace('+', '%2B')}")
    assert "its METADATA requires torch==" in answer["ground"]
    assert places.paths() == [
        "/astral/simple/cu130/flash-attn/",
        f"{answer['url']}.metadata".split(str(places.server.port))[1],
    ]


def test_a_wheel_whose_metadata_is_for_another_torch_is_passed_over(places, find):
    newer, older = astral_names("2.12", "13.0")[0], astral_names("2.12", "13.0", version="2.8.3")[0]
    places.astral("cu130", newer, older, requires={newer: "torch==2.11.*", older: "torch==2.12.*"})
    assert find("flash-attn", "astral")["filename"] == older


def test_astral_has_no_wheel_for_a_python_without_the_gil(places, find):
    places.astral("cu130", *astral_names("2.12", "13.0", ("cp314-cp314",)))
    refusal = find("flash-attn", "astral", python="cp314", abi="cp314t", strict=False)
    assert refusal["action"] == "refuse"
    assert "There is one for Python cp314" in refusal["conflicts"][0]


# -- which page is asked first


@pytest.mark.parametrize(
    ("cuda", "channels"),
    [
        ("13.0", ["cu130", "cu132"]),
        ("12.8", ["cu128", "cu129", "cu126", "cu124", "cu121"]),
        ("12.6", ["cu126", "cu124", "cu128", "cu129", "cu121"]),
        ("11.8", ["cu118"]),
        ("14.0", []),
    ],
)
def test_the_channel_nearest_to_torchs_cuda_is_asked_first_and_none_of_another_major_version(cuda, channels):
    locations = PLACES["astral"].locations("flash-attn", "2.9.1", cuda)
    assert locations == [f"simple/{channel}/flash-attn/" for channel in channels]


def test_the_next_channel_is_asked_where_the_nearest_has_nothing_that_fits(places, find):
    places.astral("cu130", *astral_names("2.11", "13.0"))
    (expected, _aarch64) = astral_names("2.12", "13.2")
    places.astral("cu132", expected)
    assert find("flash-attn", "astral")["filename"] == expected
    assert places.paths()[:2] == ["/astral/simple/cu130/flash-attn/", "/astral/simple/cu132/flash-attn/"]


def test_a_channel_that_is_not_needed_is_not_asked(places, find):
    places.astral("cu130", *astral_names("2.12", "13.0"))
    places.astral("cu132", *astral_names("2.12", "13.2"))
    assert ".13.0." in find("flash-attn", "astral")["filename"]
    assert "/astral/simple/cu132/flash-attn/" not in places.paths()


def test_a_page_that_is_missing_is_no_error(places, find):
    places.astral("cu132", *astral_names("2.12", "13.2"))
    answer = find("flash-attn", "astral")
    assert (".13.2." in answer["filename"], answer["warnings"]) == (True, [])


def test_a_torch_for_rocm_asks_no_page_for_cuda(places, environment):
    with_rocm = node(environment, torch="2.9.1+rocm6.4", cuda=None)
    with_rocm["torch"]["hip"] = "6.4"
    assert expand_source(parse_source("astral"), "flash-attn", with_rocm, {}) == []


# -- PyTorch


def test_the_same_name_in_two_folders_of_pytorchs_index_is_told_apart(places, find):
    for channel in ("cu126", "cu128", "cu130"):
        places.pytorch(channel, FA3, requires={FA3: "torch==2.9.*"})
    answers = {cuda: find("flash-attn-3", "pytorch", torch="2.9.1", cuda=cuda) for cuda in ("12.8", "13.0")}
    assert {answer["filename"] for answer in answers.values()} == {FA3}
    assert answers["12.8"]["url"].endswith(f"/whl/cu128/{FA3}")
    assert answers["13.0"]["url"].endswith(f"/whl/cu130/{FA3}")
    assert [answers[cuda]["sha256"] for cuda in answers] == [digest(f"cu128{FA3}"), digest(f"cu130{FA3}")]
    assert "its address says CUDA 13.0" in answers["13.0"]["ground"]


def test_a_wheel_of_pytorch_that_pins_no_torch_is_for_the_node_to_prove(places, find):
    places.pytorch("cu130", FA3, requires={FA3: "torch>=2.9"})
    refusal = find("flash-attn-3", "pytorch", strict=False)
    (wheel,) = refusal["provable"]
    assert (wheel["filename"], wheel["source"], wheel["sha256"]) == (FA3, "pytorch", digest(f"cu130{FA3}"))
    assert wheel["ground"].endswith("its METADATA requires torch>=2.9, and nothing tells for which torch it is")


def test_xformers_for_the_nodes_torch_is_found_by_its_metadata(places, find):
    names = [f"xformers-0.0.{patch}-cp39-abi3-manylinux_2_28_x86_64.whl" for patch in ("33.post1", "33.post2")]
    requires = {names[0]: "torch==2.9.0", names[1]: "torch==2.9.1"}
    places.pytorch("cu128", *names, "xformers-0.0.33-cp39-abi3-win_amd64.whl", requires=requires)
    answers = [find("xformers", "pytorch", torch=f"2.9.{patch}", cuda="12.8") for patch in (0, 1)]
    assert [answer["filename"] for answer in answers] == names


# -- cosmos

COSMOS = [
    "flash_attn-2.7.4.post1+cu128.torch210-cp313-cp313-linux_x86_64.whl",
    "flash_attn-2.7.4.post1+cu130.torch210-cp313-cp313-linux_x86_64.whl",
    "flash_attn-2.7.4.post1+cu130.torch29-cp313-cp313-linux_aarch64.whl",
    "flash_attn-2.7.4.post1+cu130.torch29-cp313-cp313-linux_x86_64.whl",
]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"torch": "2.10.0+cu130"}, COSMOS[1]),
        ({"torch": "2.10.0+cu126", "cuda": "12.6"}, COSMOS[0]),
        ({"torch": "2.9.1+cu130"}, COSMOS[3]),
        ({"torch": "2.9.1+cu130", "machine": "aarch64"}, COSMOS[2]),
    ],
)
def test_cosmos_wheel_for_a_node_is_found(facts, expected, places, find):
    places.cosmos("v1.5.0/", *COSMOS)
    answer = find("flash-attn", "cosmos", python="cp313", **facts)
    assert (answer["filename"], answer["sha256"]) == (expected, digest(expected))
    assert answer["url"].startswith("https://github.com/nvidia-cosmos/cosmos-dependencies/releases/download/v1.5.0/")
    assert places.paths() == ["/cosmos-dependencies/v1.5.0/flash-attn/"]


def test_older_releases_of_cosmos_are_asked_after_newer_ones(places, find):
    places.cosmos("v1.5.0/", *COSMOS)
    places.cosmos("v1.4.0/simple/", "flash_attn-2.7.4.post1+cu128.torch29-cp312-cp312-linux_x86_64.whl")
    expected = "flash_attn-2.6.3+cu128.torch271-cp312-cp312-linux_x86_64.whl"
    places.cosmos("v1.1.0/simple/", expected, hashes=False)
    answer = find("flash-attn", "cosmos", torch="2.7.1+cu128", cuda="12.8")
    assert (answer["filename"], answer["sha256"]) == (expected, None)
    assert answer["url"].endswith("/v1.1.0/" + expected.replace("+", "%2B")), "the page has a plus as it is"
    folders = [path.removeprefix("/cosmos-dependencies/").removesuffix("flash-attn/") for path in places.paths()]
    assert folders == ["v1.5.0/", "v1.4.0/simple/", "v1.2.0/simple/", "v1.1.0/simple/"]


def test_torch210_means_two_things_in_two_places(places, find):
    places.cosmos("v1.5.0/", "natten-0.21.6.dev6+cu130.torch210-cp312-cp312-linux_x86_64.whl")
    places.natten("cu121/torch2.1.0/natten-0.17.1+torch210cu121-cp311-cp311-linux_x86_64.whl")
    old, new = {"torch": "2.1.0+cu121", "cuda": "12.1"}, {"torch": "2.10.0+cu126", "cuda": "12.6"}
    assert find("natten", "cosmos", torch="2.10.0+cu130")["version"] == "0.21.6.dev6"
    assert find("natten", "natten", python="cp311", **old)["version"] == "0.17.1"
    assert find("natten", "natten", python="cp311", strict=False, **new)["action"] == "refuse"
    assert find("natten", "cosmos", torch="2.1.0+cu130", strict=False)["action"] == "refuse"


# -- natten, PyG

NATTEN = [
    f"{cuda}/torch2.{minor}.0/natten-0.21.6+torch2{minor}0{cuda}-{python}-linux_{machine}.whl"
    for cuda in ("cu126", "cu128", "cu130")
    for minor in (9, 10, 12)
    for python in ("cp312-cp312", "cp313-cp313", "cp313-cp313t")
    for machine in ("x86_64", "aarch64")
]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"torch": "2.12.0+cu130"}, "natten-0.21.6+torch2120cu130-cp312-cp312-linux_x86_64.whl"),
        ({"torch": "2.9.0+cu128", "cuda": "12.8"}, "natten-0.21.6+torch290cu128-cp312-cp312-linux_x86_64.whl"),
        (
            {"torch": "2.10.0+cu130", "machine": "aarch64"},
            "natten-0.21.6+torch2100cu130-cp312-cp312-linux_aarch64.whl",
        ),
        (
            {"torch": "2.10.0+cu130", "python": "cp313", "abi": "cp313t"},
            "natten-0.21.6+torch2100cu130-cp313-cp313t-linux_x86_64.whl",
        ),
    ],
)
def test_nattens_wheel_for_a_node_is_found(facts, expected, places, find):
    places.natten(*NATTEN)
    answer = find("natten", "natten", **facts)
    assert (answer["filename"], answer["sha256"]) == (expected, None)
    assert answer["url"].startswith("https://github.com/SHI-Labs/NATTEN/releases/download/v0.21.6/")
    assert places.paths() == ["/natten/"]


def test_where_the_newer_wheels_of_natten_do_not_fit_the_old_ones_are_asked(places, find):
    places.natten(*NATTEN)
    old = "natten-0.17.3+torch250cu124-cp312-cp312-linux_x86_64.whl"
    places.natten(old, page="/natten/old/")
    assert find("natten", "natten", torch="2.5.0+cu124", cuda="12.4")["filename"] == old
    assert places.paths() == ["/natten/", "/natten/old/"]


PYG = [
    "pyg_lib-0.7.0+pt212cu130-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "pyg_lib-0.8.0+pt212cu130-cp310-abi3-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "torch_scatter-2.1.2+pt212cu130-cp312-cp312-linux_x86_64.whl",
    "torch_sparse-0.6.18+pt212cu130-cp312-cp312-linux_x86_64.whl",
    "torch_sparse-0.6.18+pt212cu130-cp313-cp313-linux_x86_64.whl",
]


@pytest.mark.parametrize(
    ("term", "expected"),
    [("pyg-lib", PYG[1]), ("pyg-lib<0.8", PYG[0]), ("torch-scatter", PYG[2]), ("torch_sparse", PYG[3])],
)
@pytest.mark.parametrize("torch", ["2.12.0+cu130", "2.12.1+cu130"])
def test_pygs_wheel_for_a_node_is_found(term, expected, torch, places, find):
    places.pyg("2.12.0+cu130", *PYG)
    answer = find(term, "pyg", torch=torch)
    assert (answer["filename"], answer["sha256"]) == (expected, None)
    assert answer["url"] == f"{places.server.url}/pyg/whl/torch-2.12.0%2Bcu130/{expected.replace('+', '%2B')}"
    assert "its name says torch 2.12, CUDA 13.0" in answer["ground"]
    assert places.paths() == ["/pyg/whl/torch-2.12.0%2Bcu130.html"]


def test_a_package_that_is_not_on_pygs_page_is_not_there(places, find):
    places.pyg("2.12.0+cu130", *PYG)
    assert "none of this package" in find("torch-cluster", "pyg", strict=False)["conflicts"][0]


def test_pygs_page_for_the_nearest_cuda_is_asked_where_there_is_none_for_torchs_own(places, find):
    places.pyg("2.9.0+cu128", "torch_scatter-2.1.2+pt29cu128-cp312-cp312-linux_x86_64.whl")
    assert find("torch-scatter", "pyg", torch="2.9.1+cu129", cuda="12.9")["filename"].split("-")[1] == "2.1.2+pt29cu128"
    assert places.paths() == [f"/pyg/whl/torch-2.9.0%2B{cuda}.html" for cuda in ("cu129", "cu128")]


def test_a_wheel_that_contradicts_the_page_it_is_on_is_refused(places, find):
    places.pyg("2.12.0+cu130", "torch_scatter-2.1.2+pt211cu130-cp312-cp312-linux_x86_64.whl")
    refusal = find("torch-scatter", "pyg", strict=False)
    assert "its name says torch 2.11, and its address says torch 2.12" in refusal["conflicts"][0]


# -- releases on GitHub


def test_unsloths_wheel_for_a_node_is_found_among_what_is_beside_it(places, find):
    packages = ("flash_attn-2.8.4", "causal_conv1d-1.7.0", "mamba_ssm-2.3.2.post1")
    places.unsloth(
        *(
            f"{package}+cu13torch{torch}cxx11abiTRUE-cp313-cp313-linux_x86_64.whl"
            for package in packages
            for torch in ("2.13", "2.14")
        )
    )
    answer = find("mamba-ssm", "unsloth", torch="2.14.0+cu130", python="cp313")
    expected = "mamba_ssm-2.3.2.post1+cu13torch2.14cxx11abiTRUE-cp313-cp313-linux_x86_64.whl"
    assert (answer["filename"], answer["release"]) == (expected, "prebuilt-wheels-cu13")
    assert answer["sha256"] == digest(expected)
    assert places.paths() == ["/repos/unslothai/unsloth/releases/tags/prebuilt-wheels-cu13"]
    assert find("flash-attn", "unsloth", torch="2.13.0+cu132", cuda="13.2", python="cp313")["version"] == "2.8.4"
    refusal = find("flash-attn", "unsloth", torch="2.13.0+cu132", cuda="13.2", machine="aarch64", strict=False)
    assert refusal["action"] == "refuse"


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        ({}, "cu130torch2.12-cp312-cp312-manylinux_2_24_x86_64.manylinux_2_28_x86_64"),
        (
            {"torch": "2.9.0+cu128", "cuda": "12.8"},
            "cu128torch2.9-cp312-cp312-manylinux_2_24_x86_64.manylinux_2_28_x86_64",
        ),
        ({"machine": "aarch64"}, "cu130torch2.12-cp312-cp312-manylinux_2_34_aarch64"),
        (
            {"python": "cp314", "abi": "cp314t", "torch": "2.13.0+cu132", "cuda": "13.2"},
            "cu132torch2.13-cp314-cp314t-manylinux_2_24_x86_64.manylinux_2_28_x86_64",
        ),
    ],
)
def test_mjun0812s_wheel_for_a_node_is_found_among_all(facts, label, places, find):
    places.mjun0812()
    answer = find("flash-attn", "mjun0812", **facts)
    assert answer["filename"] == f"flash_attn-2.8.3+{label}.whl"
    assert (answer["sha256"], answer["source"]) == (digest(answer["filename"]), "mjun0812")
    assert places.paths() == [f"/repos/{MJUN0812}/releases"] * 2


def test_mjun0812s_wheels_of_flash_attn_3_are_read(places, find):
    name = "flash_attn_3-3.0.0+cu128torch2.10gite2743ab-cp39-abi3-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
    places.mjun0812({"v0.8.1": [name]})
    assert find("flash-attn-3", "mjun0812", torch="2.10.0+cu128", cuda="12.8")["filename"] == name


def test_lesj0610s_release_is_held_against_the_name(places, find):
    name = "flash_attn-2.8.3+cu12torch2.11cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    places.lesj0610(f"v2.8.3-cu12-torch2.11/{name}", f"v2.8.3-cu12-torch2.12/{name}")
    answer = find("flash-attn", "lesj0610", torch="2.11.0+cu128", cuda="12.8")
    assert (answer["filename"], answer["release"]) == (name, "v2.8.3-cu12-torch2.11")


def test_releases_of_the_project_are_a_known_place_too(places, find):
    places.api.serve_releases([release(tag="v2.8.3")])
    find("flash-attn", "release", strict=False)
    assert places.paths() == ["/repos/Dao-AILab/flash-attention/releases"]


# -- all of them


def expanded(source, package, environment):
    return list(dict.fromkeys(part.text for part in expand_source(parse_source(source), package, environment, {})))


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("flash-attn", ["release", "astral", "cosmos", "unsloth", "mjun0812"]),
        ("flash-attn-3", ["astral", "pytorch", "cosmos", "mjun0812"]),
        ("causal-conv1d", ["release", "astral", "unsloth"]),
        ("mamba-ssm", ["release", "astral", "unsloth"]),
        ("transformer-engine-torch", ["release", "astral"]),
        ("fast-hadamard-transform", ["release"]),
        ("xformers", ["pytorch"]),
        ("natten", ["cosmos", "natten"]),
        ("torch-scatter", ["astral", "pyg"]),
        ("torch-sparse", ["pyg"]),
        ("torch-cluster", ["pyg"]),
        ("pyg-lib", ["astral", "pyg"]),
    ],
)
def test_known_is_all_trusted_places_of_a_package_in_the_order_of_the_table(package, names, environment):
    assert expanded(KNOWN, package, node(environment)) == names
    assert names == [name for name in PLACES if name in names]


def test_every_package_is_published_somewhere():
    assert set(PACKAGES) == {package for place in PLACES.values() for package in place.packages}


def test_a_place_that_does_not_publish_a_package_is_not_asked(places, find):
    refusal = find("fast-hadamard-transform", "astral", "mjun0812", strict=False)
    assert places.paths() == []
    assert (
        "Nobody was asked, for none of these publishes fast-hadamard-transform: astral, mjun0812."
        in refusal["conflicts"][0]
    )


def test_a_project_without_releases_on_github_is_no_error(places, find):
    places.natten(*NATTEN)
    assert find("natten", "release", "natten")["source"] == "natten"
    assert "none of these publishes natten: release" in find("natten", "release", strict=False)["conflicts"][0]


def test_known_asks_one_place_after_the_other(places, find):
    places.nothing_anywhere()
    places.cosmos("v1.5.0/", *COSMOS)
    answer = find("flash-attn", "known", torch="2.10.0+cu130", python="cp313")
    assert answer["source"] == "cosmos"
    asked = list(dict.fromkeys(path.split("/")[1] for path in places.paths()))
    assert asked == ["repos", "astral", "cosmos-dependencies"]
    assert not any("unsloth" in path or "mjun0812" in path for path in places.paths())


def test_a_place_that_is_down_does_not_keep_the_next_from_being_asked(places, find):
    places.server.serve_body("/astral/simple/cu130/flash-attn/", b"", status=503)
    places.mjun0812()
    answer = find("flash-attn", "astral", "mjun0812")
    assert (answer["source"], len(answer["warnings"])) == ("mjun0812", 1)
    assert answer["warnings"][0].startswith("astral: ")
    assert "503" in answer["warnings"][0]


@pytest.mark.parametrize("name", PLACES)
def test_each_row_of_the_table_is_sound(name):
    place = PLACES[name]
    assert place.packages <= set(PACKAGES)
    assert place.grammar is None or place.grammar in grammars.OF_PLACES
    assert sum(map(bool, (name == "release", place.repository, place.url))) == 1
    assert bool(place.url) == bool(place.paths)
    assert place.url == place.url.rstrip("/")
    assert not place.cuda_versions or any("{cuda}" in path for path in place.paths)
    parse_source(name)


def test_an_unknown_word_names_the_known_places():
    with pytest.raises(TorchExtensionError) as refusal:
        parse_source("astrall")
    assert str(refusal.value).startswith("'astrall' in torch_extension_sources is no source of wheels.")
    for name in PLACES:
        assert name in str(refusal.value)


def test_a_mirror_of_a_place_is_asked_in_its_stead(environment):
    (first, *_rest) = expand_source(
        parse_source("astral"), "flash-attn", node(environment), {"astral": "https://mirror.example/astral/"}
    )
    assert first.location == "https://mirror.example/astral/simple/cu130/flash-attn/"


@pytest.mark.parametrize(
    ("place_urls", "words"),
    [
        (
            {"astrall": "https://mirror.example"},
            "'astrall' .* is none of the known places astral, pytorch, cosmos, pyg, natten",
        ),
        ({"mjun0812": "https://mirror.example"}, "'mjun0812' in torch_extension_place_urls"),
        ({"release": "https://mirror.example"}, "'release' in torch_extension_place_urls"),
        ({"astral": "mirror.example"}, "torch_extension_place_urls of astral is no address"),
        ({"astral": None}, "torch_extension_place_urls of astral is no address"),
        ({"astral": "https://me:hunter2@mirror.example"}, "torch_extension_place_urls of astral holds credentials"),
    ],
)
def test_a_mirror_of_no_place_or_with_credentials_is_refused(place_urls, words, environment, tmp_path, places):
    with pytest.raises(TorchExtensionError, match=words) as refusal:
        check_place_urls(place_urls)
    assert "hunter2" not in str(refusal.value)
    access = places.access(tmp_path)._replace(place_urls=place_urls)
    with pytest.raises(TorchExtensionError, match=words):
        choose_wheel("flash-attn", node(environment), Settings(access))
