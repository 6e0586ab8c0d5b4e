# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every name in tests/listings is read, and none is misread."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest
import yaml

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging, labels
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.labels import CUDA, NvidiaImage, Torch
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.places import PLACES

LISTINGS = next(folder for folder in Path(__file__).resolve().parents if folder.name == "tests") / "listings"
BUILDS = yaml.safe_load((LISTINGS / "torch_builds.yml").read_text())

#: of torch, before those in torch_builds.yml
OLDER_TORCH = {"1.12", "1.13", "2.0", "2.1", "2.2", "2.3"}

#: What no label says: cosmos adds the GPU that these are for, and there is no grammar for that.
UNREADABLE = {
    "cosmos_nvfp4-0.1.0+cu130.torch210.sm100-cp313-cp313-linux_aarch64.whl",
    "cosmos_nvfp4-0.1.0+cu130.torch210.sm103-cp313-cp313-linux_aarch64.whl",
    "natten-0.21.6.dev6+cu130.torch210.gb300-cp313-cp313-linux_aarch64.whl",
}


def read(place: str) -> list[tuple[str, str, labels.ParsedFilename]]:
    """Page, name, and how that is read, of each wheel that a place has."""
    lines = (LISTINGS / f"{place}.txt").read_text().splitlines()
    pairs = [line.rpartition("\t")[::2] for line in lines if line and not line.startswith("#")]
    return [(page, name, labels.parse_filename(name, PLACES[place].grammar)) for page, name in pairs]


LISTED = {path.stem: read(path.stem) for path in sorted(LISTINGS.glob("*.txt"))}
READABLE = {
    place: [(page, name, parsed) for page, name, parsed in wheels if name not in UNREADABLE]
    for place, wheels in LISTED.items()
}


def minor(built_for: Torch) -> str:
    return ".".join(built_for.version.split(".")[:2])


def count(place: str) -> dict[str, int]:
    """How many wheels a place has for each minor version of torch, and for NVIDIA's images."""
    built_for = [parsed.label.built_for for _page, _name, parsed in READABLE[place]]
    return dict(collections.Counter(minor(one) if isinstance(one, Torch) else "image" for one in built_for))


def test_the_listings_are_whole():
    names = {place: {name for _page, name, _parsed in wheels} for place, wheels in LISTED.items()}
    assert {place: len(of_place) for place, of_place in names.items()} == {
        "astral": 784,
        "cosmos": 113,
        "mjun0812": 2263,
        "natten": 292,
        "release": 6870,
        "unsloth": 6,
    }
    packages = {name.partition("-")[0] for name in names["release"]}
    assert {package.replace("_", "-") for package in packages} == PLACES["release"].packages


@pytest.mark.parametrize("place", LISTED)
def test_no_name_stands_twice_on_a_page(place):
    pairs = [(page, name) for page, name, _parsed in LISTED[place]]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("place", READABLE)
def test_every_label_tells_torch_and_a_cuda_that_there_is(place):
    for _page, name, parsed in READABLE[place]:
        label = parsed.label
        assert isinstance(label, labels.Label), name
        assert label.gpu_platform == CUDA or (place, label.gpu_platform) == ("natten", labels.CPU), name
        assert label.gpu_platform != CUDA or judging.major_of(label.gpu_version) in ("11", "12", "13"), name
        if isinstance(label.built_for, NvidiaImage):
            year, month = label.built_for.release.split(".")
            assert 24 <= int(year) <= 26, name
            assert 1 <= int(month) <= 12, name
        else:
            assert minor(label.built_for) in OLDER_TORCH | set(BUILDS), name


def test_what_is_not_understood_is_said_to_be_just_that():
    unreadable = {
        name
        for wheels in LISTED.values()
        for _page, name, parsed in wheels
        if isinstance(parsed.label, labels.Unreadable)
    }
    assert unreadable == UNREADABLE


@pytest.mark.parametrize(
    ("place", "counts"),
    [
        (
            "mjun0812",
            {
                "2.0": 16,
                "2.1": 50,
                "2.2": 87,
                "2.3": 87,
                "2.4": 125,
                "2.5": 205,
                "2.6": 210,
                "2.7": 170,
                "2.8": 150,
                "2.9": 310,
                "2.10": 201,
                "2.11": 240,
                "2.12": 238,
                "2.13": 174,
            },
        ),
        (
            "release",
            {
                "1.12": 791,
                "1.13": 973,
                "2.0": 827,
                "2.1": 892,
                "2.2": 737,
                "2.3": 492,
                "2.4": 499,
                "2.5": 385,
                "2.6": 465,
                "2.7": 330,
                "2.8": 146,
                "2.9": 119,
                "2.10": 122,
                "image": 92,
            },
        ),
        ("natten", {"2.5": 12, "2.6": 12, "2.7": 24, "2.8": 18, "2.9": 60, "2.10": 84, "2.11": 42, "2.12": 40}),
        ("unsloth", {"2.13": 3, "2.14": 3}),
    ],
)
def test_a_place_has_so_many_wheels_for_each_torch(place, counts):
    assert count(place) == counts


# What the workflow of a tag builds, read in its matrix: torch, and CUDA as the label writes it. Behind a | what was attached to the
# release later.
MATRICES = [
    ("flash_attn-2.0.7", {"1.12", "1.13", "2.0", "2.1"}, {"11.6", "11.7", "11.8", "12.1"}),
    ("flash_attn-2.3.5", {"1.12", "1.13", "2.0", "2.1"}, {"11.6", "11.7", "11.8", "12.2"}),
    ("flash_attn-2.5.8", {"1.12", "1.13", "2.0", "2.1", "2.2", "2.3"}, {"11.8", "12.2"}),
    ("flash_attn-2.6.3", {"2.0", "2.1", "2.2", "2.3", "2.4"}, {"11.8", "12.3"}),
    ("flash_attn-2.7.3", {"2.1", "2.2", "2.3", "2.4", "2.5", "2.6"} | {"2.8"}, {"11", "12"}),
    ("flash_attn-2.8.2", {"2.4", "2.5", "2.6", "2.7"}, {"12"}),
    ("flash_attn-2.8.3", {"2.4", "2.5", "2.6", "2.7", "2.8"} | {"2.9", "2.10"}, {"12"} | {"13"}),
    ("flash_attn-2.8.3.post2", {"2.6", "2.7", "2.8", "2.9", "2.10"}, {"12", "13"}),
    ("causal_conv1d-1.5.1", {"2.4", "2.5", "2.6", "2.7"}, {"11", "12"}),
    ("mamba_ssm-2.2.2", {"2.0", "2.1", "2.2", "2.3", "2.4"}, {"11.8", "12.2"}),
    ("fast_hadamard_transform-1.0.4", {"1.12", "1.13", "2.0", "2.1", "2.2"}, {"11.8", "12.2"}),
    ("transformer_engine_torch-2.18.0", {"2.8"}, {"12"}),
]


@pytest.mark.parametrize(("version", "torch", "cuda"), MATRICES)
def test_what_upstream_says_that_it_builds_is_what_its_names_say(version, torch, cuda):
    read = [parsed.label for _page, name, parsed in LISTED["release"] if name.startswith(f"{version}+")]
    assert {minor(label.built_for) for label in read} == torch
    assert {label.gpu_version for label in read} == cuda


@pytest.mark.parametrize("place", ["astral", "cosmos", "natten"])
def test_no_name_contradicts_its_page(place):
    """Pages write versions with dots (natten), or CUDA alone (Astral)."""
    for page, name, parsed in READABLE[place]:
        told = labels.parse_address(page)
        assert judging.combine((judging.NAME, parsed.label), (judging.ADDRESS, told))[1] == [], name
        if place == "astral":
            assert told.gpu_version == parsed.label.gpu_version, name
        if place == "natten":
            version = page.split("/")[1].removeprefix("torch")
            assert parsed.label.built_for == Torch(version), name


#: Of cosmos what stands in the name of torch itself, on the page beside: 2.6.0+cu126, 2.7.1+cu128.
@pytest.mark.parametrize(("torch", "version"), [("torch260", "2.6.0"), ("torch271", "2.7.1")])
def test_cosmos_builds_for_the_torch_that_it_offers(torch, version):
    read = {parsed.label.built_for for _page, name, parsed in READABLE["cosmos"] if f".{torch}-" in name}
    assert read == {Torch(version)}


@pytest.mark.parametrize("place", ["cosmos", "natten"])
def test_what_means_two_things_is_not_read_without_its_place(place):
    """``torch210`` is 2.10 of cosmos, and would be 2.1.0 of NATTEN."""
    for _page, name, parsed in READABLE[place]:
        elsewhere = labels.parse_filename(name).label
        if isinstance(elsewhere, labels.Unreadable):
            continue
        assert (place, elsewhere) == ("cosmos", parsed.label), name
    ambiguous = {name for _page, name, _parsed in READABLE["cosmos"] if ".torch210-" in name}
    assert ambiguous
    for name in ambiguous:
        assert "which may be 2.10 or 2.1.0" in labels.parse_filename(name).label.reason
        assert isinstance(labels.parse_filename(name, "natten").label, labels.Unreadable)


def test_the_builds_of_torch_have_the_abi_that_the_collection_takes_them_to_have():
    taken = {
        (torch, cuda): labels.pip_torch_abi(torch, cuda) for torch, build in BUILDS.items() for cuda in build["x86_64"]
    }
    assert taken == {(torch, cuda): abi for torch, build in BUILDS.items() for cuda, abi in build["x86_64"].items()}
