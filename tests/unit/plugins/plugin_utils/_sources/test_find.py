# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import os
import re
import time

import pytest
from github_server import Api, asset, release
from servers import running_server
from wheels import build_wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import Settings, choose_wheel
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess

TAGS = "cp311-cp311-linux_x86_64"
COMMUNITY = "mjun0812/flash-attention-prebuild-wheels"


def wheel(version="2.5.3", label="cu122torch2.2cxx11abiFALSE", tags=TAGS):
    plus = f"+{label}" if label else ""
    return f"flash_attn-{version}{plus}-{tags}.whl"


@pytest.fixture
def api():
    with running_server() as server:
        yield Api(server)


@pytest.fixture
def find(api, tmp_path, environment):
    """What the lookup answers, with a requirement and other settings."""

    def find(term="flash-attn==2.5.3", *sources, access=None, strict=True, **settings):
        access = SourceAccess(str(tmp_path / "cache"), github_api_url=api.server.url, **(access or {}))
        return choose_wheel(term, environment, Settings(access, sources or ("release",), **settings), strict)

    return find


def test_a_wheel_of_the_release_is_returned_with_its_size_and_hash(api, find):
    api.serve_release(release(asset(wheel(), size=7), asset(wheel(label="cu118torch2.2cxx11abiFALSE")), tag="v2.5.3"))
    answer = find()
    assert (answer["filename"], answer["size"], answer["source"], answer["release"]) == (
        wheel(),
        7,
        "release",
        "v2.5.3",
    )
    assert len(answer["sha256"]) == 64
    assert answer["url"].endswith(f"/{wheel().replace('+', '%2B')}")
    assert answer["ground"].startswith("its name says torch 2.2, CUDA 12.2, C++11 ABI FALSE")
    assert [(item["reason"], item["count"]) for item in answer["refused"]] == [
        ("it is for CUDA 11, this node has CUDA 12.1", 1)
    ]
    assert (answer["conflicts"], answer["action"], len(api.requests)) == ([], "install", 1)


def test_a_version_that_the_collection_does_not_know_is_found(api, find):
    api.serve_release(release(asset(wheel("99.1")), tag="v99.1"))
    assert find("flash-attn==99.1")["filename"] == wheel("99.1")


def test_a_release_need_not_bear_the_versions_name(api, find):
    api.serve_releases([release(asset(wheel("2.5.4")), tag="v2.5.4.post3")])
    assert find("flash-attn==2.5.4")["release"] == "v2.5.4.post3"


def test_a_range_takes_the_newest_wheel_that_fits_and_lists_newer_ones(api, find):
    api.serve_releases(
        [
            release(asset(wheel("2.8.3", "cu12torch2.8cxx11abiTRUE")), tag="v2.8.3"),
            release(asset(wheel("2.5.6")), tag="v2.5.6"),
            release(asset(wheel("2.5.3")), tag="v2.5.3"),
        ]
    )
    assert find("flash-attn")["version"] == "2.5.6"
    assert find("flash-attn<2.5.6")["version"] == "2.5.3"
    assert [item["version"] for item in find("flash-attn")["newer"]] == ["2.8.3"]


def test_the_first_source_that_has_a_wheel_answers_and_the_next_is_not_asked(api, find):
    api.serve_release(release(asset(wheel()), tag="v2.5.3"))
    assert find("flash-attn==2.5.3", "release", f"github:{COMMUNITY}")["source"] == "release"
    assert not any(COMMUNITY in path for path in api.requests)


def test_after_a_source_without_a_fitting_wheel_the_next_is_asked(api, find):
    api.serve_release(release(asset(wheel(label="cu118torch2.2cxx11abiFALSE")), tag="v2.5.3"))
    api.serve_releases([])
    api.serve_releases([release(asset(wheel(label="cu121torch2.2")), tag="v0.0.1")], repository=COMMUNITY)
    answer = find("flash-attn==2.5.3", "release", f"github:{COMMUNITY}")
    assert (answer["source"], answer["filename"]) == (f"github:{COMMUNITY}", wheel(label="cu121torch2.2"))


def test_a_folder_is_searched_without_any_network(api, find, tmp_path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / wheel()).write_bytes(b"wheel")
    answer = find("flash-attn", f"directory:{tmp_path}/wheels", "release")
    assert (answer["source"], answer["size"]) == (f"directory:{tmp_path}/wheels", 5)
    assert answer["url"].startswith(f"file://{tmp_path}/wheels/")
    assert api.requests == []


def test_a_page_with_links_is_searched(api, find):
    api.server.serve_page("/wheels/", f'<a href="{wheel().replace("+", "%2B")}#sha256={"a" * 64}">a wheel</a>')
    answer = find("flash-attn", f"index:{api.server.url}/wheels/")
    assert (answer["filename"], answer["sha256"]) == (wheel(), "a" * 64)
    assert answer["url"] == f"{api.server.url}/wheels/{wheel().replace('+', '%2B')}"


def test_a_mirror_replaces_githubs_address_in_the_urls_of_the_api(api, find):
    url = f"https://github.com/Dao-AILab/flash-attention/releases/download/v2.5.3/{wheel()}"
    api.serve_release(release(asset(wheel(), browser_download_url=url), tag="v2.5.3"))
    assert find()["url"] == url
    for mirror in (
        "https://mirror.example/gh",
        "https://mirror.example/https://github.com",
        "https://m.example/https:/github.com",
    ):
        for written in (mirror, f"{mirror}/"):
            assert find(access={"github_url": written})["url"] == url.replace("https://github.com", mirror)


def test_where_the_api_is_unavailable_nothing_is_guessed_unless_the_operator_says_so(api, find):
    api.serve_release(release(asset(wheel()), tag="v2.5.3"))
    api.status = 503
    (conflict,) = find(strict=False)["conflicts"]
    assert conflict.startswith("Whether there is a wheel of flash-attn==2.5.3 for this node is not known")
    assert "HTTP status 503" in conflict
    assert conflict.endswith("torch_extension_sources: [release, guess].")
    answer = find("flash-attn==2.5.3", "release", "guess")
    assert (answer["source"], answer["filename"], answer["sha256"]) == ("guess", wheel(), None)
    assert "503" in answer["warnings"][0]
    assert answer["warnings"][1].startswith("The file name of flash-attn==2.5.3 is a guess")


def test_where_the_api_is_unavailable_a_pinned_version_is_looked_for_in_the_list_of_all_releases_that_was_kept(
    api, find
):
    """As for a roll back: the version before was never asked for by itself."""
    api.serve_releases([release(asset(wheel()), tag="v2.5.3"), release(asset(wheel("2.5.2")), tag="v2.5.2")])
    assert find("flash-attn")["version"] == "2.5.3"
    for version in ("2.5.2", "2.5.1"):
        api.serve_release(release(tag=f"v{version}"))
    api.status = 503
    answer = find("flash-attn==2.5.2")
    assert (answer["source"], answer["filename"]) == ("release", wheel("2.5.2"))
    (conflict,) = find("flash-attn==2.5.1", strict=False)["conflicts"]
    assert conflict.startswith("Whether there is a wheel of flash-attn==2.5.1 for this node is not known")


def test_a_guess_that_the_operator_asks_for_first_has_no_warning(api, find):
    api.status = 503
    assert find("flash-attn==2.5.3", "guess", "release")["warnings"] == []


def test_where_the_api_is_unavailable_a_range_is_refused_as_not_known(api, find):
    api.serve_releases([])
    api.status = 503
    with pytest.raises(
        TorchExtensionError, match=r"^Whether there is a wheel of flash-attn>=2\.5 for this node is not known"
    ) as no:
        find("flash-attn>=2.5")
    assert re.search(r"Nobody could be asked\. release: http\S+ was answered with HTTP status 503", str(no.value))
    assert str(no.value).endswith(
        "Run again once they answer, or name places that you can reach in torch_extension_sources, such as an index or a folder."
    )
    assert "Looked at" not in str(no.value)


def test_where_the_api_is_unavailable_no_guess_is_advised_that_could_not_be_made(api, find):
    api.serve_release(release(asset(wheel("99.1")), tag="v99.1"))
    api.status = 503
    (conflict,) = find("flash-attn==99.1", strict=False)["conflicts"]
    assert conflict.startswith("Whether there is a wheel of flash-attn==99.1 for this node is not known")
    assert "v99.1 was answered with HTTP status 503" in conflict
    assert "guess" not in conflict
    (conflict,) = find("flash-attn==99.1", "release", "guess", strict=False)["conflicts"]
    assert f"flash-attn 99.1 is newer than {PACKAGES['flash-attn'].versions[-1]}" in conflict


def test_then_the_next_source_is_asked_all_the_same(api, find, tmp_path):
    (tmp_path / wheel("99.1")).write_bytes(b"wheel")
    api.serve_release(release(tag="v99.1"))
    api.status = 503
    answer = find("flash-attn==99.1", "release", f"directory:{tmp_path}")
    assert answer["source"] == f"directory:{tmp_path}"
    assert "HTTP status 503" in answer["warnings"][0]


def test_a_version_that_cannot_be_guessed_names_the_source_that_needs_no_table(find):
    with pytest.raises(TorchExtensionError, match=r"newer than .*Take release into torch_extension_sources"):
        find("flash-attn==99.1", "guess")


def test_a_refusal_tells_sources_without_a_wheel_from_those_that_were_not_asked(api, find, tmp_path):
    (tmp_path / wheel(label="cu118torch2.2cxx11abiFALSE")).write_bytes(b"wheel")
    api.serve_releases([], repository=COMMUNITY)
    api.status = 503
    (conflict,) = find("flash-attn", f"github:{COMMUNITY}", f"directory:{tmp_path}", strict=False)["conflicts"]
    assert f"Looked at in directory:{tmp_path}: 1 of flash-attn" in conflict
    assert f"What is in these is not known, for they could not be asked: github:{COMMUNITY}: http" in conflict


def test_a_known_place_none_of_whose_pages_is_there_is_told_as_that(api, find):
    (conflict,) = find(
        "flash-attn", "astral", strict=False, access={"place_urls": {"astral": f"{api.server.url}/typo"}}
    )["conflicts"]
    assert re.search(
        r"astral has no page of it: there is none at http\S+/typo/simple/cu121/flash-attn/ and \S+ \(404\)", conflict
    )


def test_a_release_of_a_known_place_that_is_missing_is_not_taken_for_an_empty_one(find):
    (conflict,) = find(
        "flash-attn", "unsloth", "astral", strict=False, access={"place_urls": {"astral": "http://127.0.0.1:1"}}
    )["conflicts"]
    assert conflict.startswith("Whether there is a wheel of flash-attn for this node is not known")
    assert "knows no release prebuilt-wheels-cu13 of unslothai/unsloth (404)" in conflict


def link(url, name, sha256=None):
    return f'<a href="{url}/{name.replace("+", "%2B")}{f"#sha256={sha256}" if sha256 else ""}">{name}</a>'


@pytest.mark.parametrize("digests", [("a" * 64, "a" * 64), (None, "a" * 64), ("a" * 64, None), (None, None)])
def test_further_links_to_one_file_are_kept_for_the_download(digests, api, find):
    """As pages of repositories have them: a view for people first, then the file."""
    views = [link(url, wheel(), digest) for url, digest in zip(("/blob/main", "/resolve/main"), digests, strict=True)]
    api.server.serve_page("/tree/main/", "".join([*views, views[0]]))
    answer = find("flash-attn", f"index:{api.server.url}/tree/main/")
    quoted = wheel().replace("+", "%2B")
    assert answer["url"] == f"{api.server.url}/blob/main/{quoted}"
    assert answer["other_urls"] == [f"{api.server.url}/resolve/main/{quoted}"]
    assert answer["sha256"] == (digests[0] or digests[1])
    assert (answer["refused"], answer["ground"].rpartition("; ")[2]) == ([], "the only wheel of 2.5.3")


def test_links_of_one_name_to_files_of_another_hash_or_torch_are_other_files(api, find):
    page = [link("/a", wheel(), "a" * 64), link("/b", wheel(), "b" * 64), link("/cu118", wheel(), "a" * 64)]
    untold = [link(f"/{folder}", wheel("2.5.2", label="")) for folder in ("cu121", "cu118")]
    api.server.serve_page("/w/", "".join([*page, *untold]))
    answer = find("flash-attn==2.5.3", f"index:{api.server.url}/w/")
    quoted = wheel().replace("+", "%2B")
    assert (answer["sha256"], answer["other_urls"]) == ("a" * 64, [f"{api.server.url}/cu118/{quoted}"])
    assert f"it fits, but {wheel()} of {api.server.url}/a/{quoted} is nearer" in [
        each["reason"] for each in answer["refused"]
    ]
    untold = find("flash-attn==2.5.2", f"index:{api.server.url}/w/", strict=False)["provable"]
    assert [each["other_urls"] for each in untold] == [[]]


def test_a_link_for_which_the_operator_gives_another_hash_is_another_file(api, find):
    api.server.serve_page("/w/", "".join(link(url, wheel()) for url in ("/a", "/b", "/c")))
    first, second, third = (f"{api.server.url}/{folder}/{wheel().replace('+', '%2B')}" for folder in "abc")
    answer = find(
        "flash-attn", f"index:{api.server.url}/w/", sha256={first: "a" * 64, second: "b" * 64, third: "A" * 64}
    )
    assert (answer["url"], answer["sha256"], answer["other_urls"]) == (first, "a" * 64, [third])


def test_the_metadata_of_a_wheel_is_read_by_a_further_link_too(api, find, tmp_path):
    built = build_wheel(tmp_path, version="2.5.3", label="", tags=TAGS, requires=["torch==2.2.*"])
    api.server.serve_page(f"/blob/{built.name}", "<html>a view for people")
    api.server.serve_file(f"/raw/{built.name}", built.read_bytes())
    api.server.serve_page("/w/", link("/blob", built.name) + link("/raw", built.name))
    answer = find("flash-attn", f"index:{api.server.url}/w/")
    assert answer["ground"] == f"its name says {TAGS}; its METADATA requires torch==2.2.*; the only wheel of 2.5.3"


def test_metadata_that_could_not_be_read_is_told_as_that(api, find):
    name = wheel(label="")
    api.server.serve_body(f"/w/{name}", b"", status=403)
    api.server.serve_page("/w/", link("/w", name))
    (untold,) = find("flash-attn", f"index:{api.server.url}/w/", strict=False)["provable"]
    assert re.search(
        r"its METADATA could not be read \(http.*HTTP status 403.*\), and nothing tells for which torch",
        untold["ground"],
    )
    (conflict,) = find("flash-attn", f"index:{api.server.url}/w/", strict=False, match="exact")["conflicts"]
    assert re.search(rf"{name} was left out, for .*torch_extension_match is exact, and proven would", conflict)


ASKED = "cu122torch2.2cxx11abifalse"


def test_of_the_wheels_that_fit_the_one_of_the_label_that_is_asked_for_is_taken(api, find):
    labels = ("cu121torch2.2cxx11abiFALSE", "cu122torch2.2cxx11abiFALSE", "cu123torch2.2cxx11abiFALSE")
    api.serve_release(release(*(asset(wheel(label=label)) for label in labels), tag="v2.5.3"))
    assert find()["filename"] == wheel(label=labels[0])
    answer = find(f"flash-attn==2.5.3+{ASKED}")
    assert answer["filename"] == wheel(label="cu122torch2.2cxx11abiFALSE")
    assert answer["requirement"] == f"flash-attn==2.5.3+{ASKED}"
    assert [each["count"] for each in answer["refused"]] == [1, 1]


def test_where_another_label_fits_the_refusal_has_both_and_what_to_write(api, find):
    api.serve_release(release(asset(wheel()), asset(wheel(label="cu118torch2.2cxx11abiFALSE")), tag="v2.5.3"))
    api.serve_releases([release(asset(wheel()), asset(wheel(label="cu118torch2.2cxx11abiFALSE")), tag="v2.5.3")])
    refusal = find("flash-attn==2.5.3+cu118torch2.2cxx11abifalse", strict=False)
    (conflict,) = refusal["conflicts"]
    assert conflict.startswith(
        "No wheel of flash-attn==2.5.3 with the label +cu118torch2.2cxx11abifalse fits this node"
    )
    assert (
        f"{wheel()} fits by its name, but it bears the label +cu122torch2.2cxx11abifalse, and +cu118torch2.2cxx11abifalse is asked"
        " for. " in conflict
    )
    assert "There is one for CUDA 11." in conflict
    assert (
        "'flash-attn==2.5.3' in torch_extension_packages, without the label, takes the wheel for this node" in conflict
    )
    assert refusal["provable"] == []


def test_for_another_torch_only_the_wheel_of_the_label_that_is_asked_for_may_be_proven(api, find):
    labels = ("cu122torch2.1cxx11abiFALSE", "cu121torch2.1cxx11abiFALSE", "cu122torch2.3cxx11abiFALSE")
    api.serve_releases([release(*(asset(wheel(label=label)) for label in labels), tag="v2.5.3")])
    refusal = find("flash-attn==2.5.3+cu122torch2.3cxx11abiFALSE", strict=False)
    assert [each["filename"] for each in refusal["provable"]] == [wheel(label=labels[2])]


def test_answers_for_two_labels_are_kept_apart(api, find, tmp_path):
    api.serve_release(release(asset(wheel()), tag="v2.5.3"))
    api.serve_releases([])
    assert find(f"flash-attn==2.5.3+{ASKED}")["filename"] == wheel()
    assert find("flash-attn==2.5.3+other", strict=False)["filename"] is None
    assert find()["filename"] == wheel()


@pytest.mark.parametrize(
    ("torch", "is_told"),
    [
        ("2.2.0", False),
        ("2.2.0+cu121", False),
        ("2.2.0a0+81ea7a4", True),
        ("2.2.0.dev20231106+cu121", True),
        ("2.2.0rc1", True),
    ],
)
def test_what_a_name_is_worth_for_a_torch_between_two_versions_is_told(torch, is_told, api, find, environment):
    api.serve_release(release(asset(wheel()), tag="v2.5.3"))
    environment["torch"]["version"] = torch
    told = "this torch is a build before 2.2.0, and a wheel for torch 2.2 may have been made for a later one"
    assert (told in find()["ground"]) == is_told


def test_after_an_unavailable_source_the_next_is_asked_with_a_warning(api, find, tmp_path):
    (tmp_path / wheel()).write_bytes(b"wheel")
    api.serve_releases([], repository=COMMUNITY)
    api.status = 503
    answer = find("flash-attn", f"github:{COMMUNITY}", f"directory:{tmp_path}")
    assert answer["source"] == f"directory:{tmp_path}"
    assert answer["warnings"][0].startswith(f"github:{COMMUNITY}: ")


def test_the_error_where_nothing_fits_says_what_the_node_is_what_comes_nearest_and_what_to_do(api, find):
    wheels = [asset(wheel(label=f"cu122torch{torch}cxx11abiFALSE")) for torch in ("2.1", "2.3")]
    api.serve_release(release(*wheels, asset(wheel(tags="cp312-cp312-linux_x86_64")), tag="v2.5.3"))
    api.serve_releases([release(*wheels, tag="v2.5.3"), release(asset(wheel("2.5.6")), tag="v2.5.6")])
    with pytest.raises(TorchExtensionError) as refusal:
        find()
    assert str(refusal.value) == (
        "No wheel of flash-attn==2.5.3 fits this node: Python cp311, torch 2.2.0+cu121 (CUDA 12.1, C++11 ABI FALSE),"
        " linux x86_64, glibc 2.36. Looked at in release: 2 of flash-attn==2.5.3 and 1 of other versions."
        " There is one for torch 2.3 or 2.1. For this node as it is there is a wheel of version 2.5.6."
        " Knobs: torch_extension_packages (another version), torch_extension_sources (more places), or another torch on"
        " the node."
    )
    answer = find(strict=False)
    assert (answer["conflicts"], answer["action"]) == ([str(refusal.value)], "refuse")


def test_a_hash_that_contradicts_the_release_is_refused_before_anything_is_downloaded(api, find):
    api.serve_release(release(asset(wheel()), tag="v2.5.3"))
    with pytest.raises(TorchExtensionError, match=r"by release, and torch_extension_sha256 wants 0{64}"):
        find(sha256={wheel(): "0" * 64})


def test_a_file_without_a_hash_is_refused_where_one_is_required(api, find):
    api.serve_release(release(asset(wheel(), digest=None), tag="v2.5.3"))
    assert find()["sha256"] is None
    with pytest.raises(TorchExtensionError, match=r"no published hash where it comes from \(release\)"):
        find(require_sha256=True)
    assert find(require_sha256=True, sha256={wheel(): "a" * 64})["sha256"] == "a" * 64


def test_a_filename_that_pip_rejects_is_corrected(api, find, environment):
    name = "transformer_engine_torch-2.11.0+cu12torch2.2.0+cu121cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
    api.serve_releases([release(asset(name), tag="v2.11")], repository="NVIDIA/TransformerEngine")
    answer = find("transformer-engine-torch==2.11.0")
    assert answer["filename"] == name.replace("2.2.0+cu121", "2.2.0.cu121")
    assert answer["url"].endswith(name.replace("+", "%2B"))


@pytest.mark.parametrize(("torch", "words"), [(None, "the environment has none"), ({"cuda": None}, "for the CPU only")])
def test_an_environment_without_cuda_is_refused_before_anybody_is_asked(torch, words, api, find, environment):
    environment["torch"] = torch and {**environment["torch"], **torch}
    with pytest.raises(TorchExtensionError, match=words):
        find()
    assert api.requests == []


def test_the_error_of_the_only_source_is_raised_unchanged(find, tmp_path):
    with pytest.raises(TorchExtensionError, match=r"^The folder .*/nowhere on the control node cannot be read"):
        find("flash-attn", f"directory:{tmp_path}/nowhere")


def test_where_nothing_fits_the_answer_lists_provable_wheels_for_another_torch(api, find, tmp_path):
    older, newer = wheel(label="cu122torch2.1cxx11abiFALSE"), wheel(label="cu122torch2.3cxx11abiFALSE")
    api.serve_release(
        release(asset(newer), asset(older), asset(wheel(label="cu118torch2.2cxx11abiFALSE")), tag="v2.5.3")
    )
    for name in (older, wheel(label="cu121torch2.3cxx11abiFALSE")):
        (tmp_path / name).write_bytes(b"wheel")
    api.serve_releases([release(asset(newer), asset(older), tag="v2.5.3")])
    refusal = find("flash-attn==2.5.3", "release", f"directory:{tmp_path}", strict=False)
    assert refusal["action"] == "refuse"
    first, second = refusal["provable"]
    assert (first["filename"], first["source"], first["release"], first["size"]) == (older, "release", "v2.5.3", 7)
    assert first["ground"] == "its name says torch 2.1, CUDA 12.2, C++11 ABI FALSE, cp311-cp311-linux_x86_64"
    assert second["filename"] == wheel(label="cu121torch2.3cxx11abiFALSE"), "torch's own CUDA minor is nearer"
    assert (second["source"], second["size"], second["warnings"]) == (f"directory:{tmp_path}", 5, [])
    assert second["url"].startswith("file://")


def test_with_match_exact_no_other_torch_is_considered(find, tmp_path):
    (tmp_path / wheel(label="cu122torch2.1cxx11abiFALSE")).write_bytes(b"wheel")
    (tmp_path / wheel(label="")).write_bytes(b"wheel")
    refusal = find("flash-attn", f"directory:{tmp_path}", strict=False, match="exact")
    assert (refusal["action"], refusal["provable"]) == ("refuse", [])


def test_a_wheel_without_a_label_is_judged_by_its_metadata(find, tmp_path):
    built = build_wheel(tmp_path, version="2.5.3", label="", tags=TAGS, requires=["torch==2.2.*"])
    answer = find("flash-attn", f"directory:{tmp_path}")
    assert answer["filename"] == built.name
    assert answer["ground"] == f"its name says {TAGS}; its METADATA requires torch==2.2.*; the only wheel of 2.5.3"


def test_a_wheel_whose_metadata_requires_another_torch_is_refused_with_both(find, tmp_path):
    build_wheel(tmp_path, version="2.5.3", label="", tags=TAGS, requires=["torch==2.3.*"])
    refusal = find("flash-attn", f"directory:{tmp_path}", strict=False)
    assert "its METADATA requires torch==2.3.*, this node has torch 2.2.0+cu121" in refusal["conflicts"][0]
    assert refusal["provable"] == []


@pytest.mark.parametrize("requires", [["torch"], ["torch>=2.1"], []])
def test_a_wheel_of_which_nobody_tells_the_torch_may_be_proven_by_the_node(requires, find, tmp_path):
    built = build_wheel(tmp_path, version="2.5.3", label="", tags=TAGS, requires=requires)
    (tmp_path / wheel("2.5.2")).write_bytes(b"wheel")
    answer = find("flash-attn", f"directory:{tmp_path}")
    assert answer["version"] == "2.5.2"
    assert [each["filename"] for each in answer["provable"]] == [built.name]
    assert "nothing tells for which torch it is" in answer["provable"][0]["ground"]


def test_the_metadata_of_a_wheel_on_a_server_is_read_from_its_end(api, find, tmp_path):
    built = build_wheel(
        tmp_path,
        version="2.5.3",
        label="",
        tags=TAGS,
        requires=["torch==2.2.*"],
        extra=[("data", os.urandom(3_000_000))],
    )
    api.server.serve_file(f"/w/{built.name}", built.read_bytes())
    api.server.serve_page("/w/", f'<a href="{built.name}">wheel</a>')
    answer = find("flash-attn", f"index:{api.server.url}/w/")
    assert answer["filename"] == built.name
    assert sum(api.server.sent_sizes) < 500_000 < built.stat().st_size


def test_a_server_that_gives_no_part_of_a_file_leaves_the_wheel_to_the_proof(api, find, tmp_path):
    built = build_wheel(tmp_path, version="2.5.3", label="", tags=TAGS, requires=["torch==2.2.*"])
    api.server.serve_body(f"/w/{built.name}", built.read_bytes())
    api.server.serve_page("/w/", f'<a href="{built.name}">wheel</a>')
    refusal = find("flash-attn", f"index:{api.server.url}/w/", strict=False)
    assert [each["filename"] for each in refusal["provable"]] == [built.name]


def test_the_metadata_beside_a_wheel_is_read_instead_and_held_against_its_hash(api, find):
    name = f"flash_attn-2.5.3-{TAGS}.whl"
    metadata = b"Metadata-Version: 2.1\nName: flash_attn\nVersion: 2.5.3\nRequires-Dist: torch==2.2.*\n"
    digest = hashlib.sha256(metadata).hexdigest()
    api.server.serve_page("/w/", f'<a href="{name}" data-core-metadata="sha256={digest}">wheel</a>')
    api.server.serve_page(f"/w/{name}.metadata", metadata.decode(), "text/plain")
    assert find("flash-attn", f"index:{api.server.url}/w/")["filename"] == name
    assert api.requests == ["/w/", f"/w/{name}.metadata"]


def test_a_name_and_metadata_that_disagree_are_refused_with_both(api, find):
    name = wheel(label="cu.12.1.torch.2.2")
    metadata = "Metadata-Version: 2.1\nName: flash_attn\nVersion: 2.5.3\nRequires-Dist: torch==2.3.*\n"
    api.server.serve_page("/w/", f'<a href="{name.replace("+", "%2B")}" data-core-metadata="true">wheel</a>')
    api.server.serve_page(f"/w/{name.replace('+', '%2B')}.metadata", metadata, "text/plain")
    refusal = find("flash-attn", f"index:{api.server.url}/w/", strict=False)
    assert "its name says torch 2.2, and its METADATA requires torch==2.3.*" in refusal["conflicts"][0]


def test_what_a_source_has_for_a_kind_of_node_is_kept_for_the_next_one(api, find, environment, tmp_path):
    api.serve_releases([release(asset(wheel()), tag="v2.5.3")])
    first = find("flash-attn")
    for listing in (tmp_path / "cache" / "api").iterdir():
        listing.unlink()
    environment["gpus"] = None  # no part of a kind
    assert find("flash-attn") == first
    assert len(api.requests) == 1
    environment["torch"]["version"] = "2.1.0+cu121"
    find("flash-attn", strict=False)
    assert len(api.requests) == 2


def test_what_a_source_has_is_not_kept_longer_than_its_listing(api, find):
    api.serve_releases([release(asset(wheel()), tag="v2.5.3")])
    assert find("flash-attn", access={"max_age": 0})["version"] == "2.5.3"
    api.serve_releases([release(asset(wheel("2.5.6")), tag="v2.5.6")])
    assert find("flash-attn", access={"max_age": 0})["version"] == "2.5.6"


def test_nor_is_it_where_the_listing_was_old_already(api, find, tmp_path, environment):
    api.serve_releases([release(asset(wheel()), tag="v2.5.3")])
    find("flash-attn")
    for kept in (tmp_path / "cache").glob("*/*"):  # as if that had been nine minutes ago
        if kept.suffix == ".answer":
            fields, body = kept.read_bytes().split(b"\n", 1)
            old = {**json.loads(fields), "time": time.time() - 540}
            kept.write_bytes(json.dumps(old).encode() + b"\n" + body)
        if kept.suffix == ".json":
            kept.unlink()
    find("flash-attn")
    (kept,) = (tmp_path / "cache" / "answers").iterdir()
    assert 530 < time.time() - json.loads(kept.read_text())["time"] < 600


def test_an_answer_is_small_however_many_wheels_there_are(api, find):
    names = [
        wheel("2.5.3", f"cu{cuda}torch2.{minor}cxx11abi{abi}", f"cp3{python}-cp3{python}-linux_{machine}")
        for cuda in ("118", "121", "122", "123")
        for minor in range(1, 11)
        for abi in ("TRUE", "FALSE")
        for python in range(8, 15)
        for machine in ("x86_64", "aarch64")
    ]
    api.serve_releases([release(*map(asset, names), tag="v2.5.3")])
    answer = find("flash-attn")
    assert sum(group["count"] for group in answer["refused"]) == len(names) - 1 == 1119
    assert len(json.dumps(answer)) < 8000


def test_a_source_over_which_a_library_stumbles_does_not_hide_the_next(api, find):
    api.serve_release(release(asset(wheel()), tag="v2.5.3"))
    answer = find("flash-attn==2.5.3", "directory:/no\0where", "release")
    assert (answer["filename"], answer["source"]) == (wheel(), "release")
    [warning] = answer["warnings"]
    assert "could not be dealt with, for a reason that this collection does not know (ValueError: " in warning
