# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import re

import pytest
from planned_builds import store_built

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import (
    Decision,
    Settings,
    choose_wheel,
    judge_environment,
    parse_requirement,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess

WHEEL = "flash_attn-2.5.3+cu122torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
RELEASES = "Dao-AILab/flash-attention/releases/download"
SDIST_URL = (
    "https://pypi.tuna.tsinghua.edu.cn/packages/b9/ec/953adfbd9d95b0e9385d3946b81c0446ae723f70fafcb0b5c40e10f5d7f2"
    "/flash_attn-2.5.3.tar.gz#sha256=5a176a0589635270be7181c8b96c3bdf432a28f8d7a916ffce434cd43f982fda"
)
CACHED = f"/home/user/.cache/pip/wheels/0b/b5/fb/4eb31ffcf262c7b78dd3ae076329e02560008d5bb11c6c6f6d/{WHEEL}"


def guessing(github_url="https://github.com", **settings):
    return Settings(SourceAccess(cache="/none", github_url=github_url), sources=("guess",), **settings)


def test_the_answer_is_the_whole_plan_of_one_wheel(environment):
    assert choose_wheel("Flash_Attn == 2.5.3", environment, guessing()) == {
        "name": "flash-attn",
        "requirement": "Flash_Attn == 2.5.3",
        "version": "2.5.3",
        "filename": WHEEL,
        "url": f"https://github.com/{RELEASES}/v2.5.3/{WHEEL}",
        "other_urls": [],
        "source": "guess",
        "release": None,
        "sha256": None,
        "size": None,
        "imports": ["flash_attn"],
        "requirements": None,
        "ground": "it is what setup.py of flash-attn 2.5.3 would ask for here; whether it exists is not known",
        "refused": [],
        "newer": [],
        "build": None,
        "built": None,
        "warnings": [],
        "sdist_url": None,
        "pip_cache_path": None,
        "provable": [],
        "conflicts": [],
        "action": "install",
        "reason": "flash-attn is not installed",
    }


def test_a_mirror_has_the_paths_of_github(environment):
    answer = choose_wheel("flash-attn==2.5.3", environment, guessing(github_url="http://mirror.example:8080/gh/"))
    assert answer["url"] == f"http://mirror.example:8080/gh/{RELEASES}/v2.5.3/{WHEEL}"


@pytest.mark.parametrize("mirror", ["https://ghfast.top/https://github.com", "https://ghfast.top/https://github.com/"])
def test_a_guess_keeps_the_address_that_an_accelerator_looks_for(mirror, environment):
    answer = choose_wheel("flash-attn==2.5.3", environment, guessing(github_url=mirror))
    assert answer["url"] == f"https://ghfast.top/https://github.com/{RELEASES}/v2.5.3/{WHEEL}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://me:secret@mirror.example", "credentials for mirror.example.*netrc"),
        ("https://token@mirror.example/gh", "credentials for mirror.example.*netrc"),
        ("https://mirror.example/https://me:secret@github.com", "credentials for github.com.*netrc"),
        ("mirror.example", "no address of a server"),
        ("ftp://mirror.example", "no address of a server"),
        ("https://", "no address of a server"),
        ("https://[::1", "no address of a server"),
        ("", "no address of a server"),
    ],
)
def test_an_unusable_github_url_is_refused_without_repeating_its_secrets(url, words, environment):
    with pytest.raises(TorchExtensionError, match=words) as error:
        choose_wheel("flash-attn==2.5.3", environment, guessing(github_url=url), strict=False)
    assert "secret" not in str(error.value)
    assert "token" not in str(error.value)


def test_the_path_in_pips_cache_follows_from_the_sdists_url(environment):
    answer = choose_wheel("flash-attn==2.5.3", environment, guessing(sdist_url=SDIST_URL))
    assert (answer["pip_cache_path"], answer["sdist_url"], answer["action"]) == (CACHED, SDIST_URL, "examine")


def test_each_package_has_its_own_sdist(environment):
    settings = guessing(sdist_url={"Flash_Attn": SDIST_URL})
    assert choose_wheel("flash-attn==2.5.3", environment, settings)["pip_cache_path"] == CACHED
    assert choose_wheel("causal-conv1d==1.2.0.post2", environment, settings)["pip_cache_path"] is None


@pytest.mark.parametrize(
    ("digest", "sha256"), [("A" * 64, "a" * 64), (None, None)], ids=["in capitals", "of another file"]
)
def test_a_known_hash_belongs_to_its_file(digest, sha256, environment):
    hashes = {WHEEL: digest} if digest else {"other.whl": "b" * 64}
    assert choose_wheel("flash-attn==2.5.3", environment, guessing(sha256=hashes))["sha256"] == sha256


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "a" * 65, "a" * 64 + "\n", 12])
def test_a_malformed_sha256_is_refused(digest, environment):
    with pytest.raises(TorchExtensionError, match="wanted are 64 hexadecimal digits"):
        choose_wheel("flash-attn==2.5.3", environment, guessing(sha256={WHEEL: digest}))


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("flash-attn", "does not pin one version.*flash-attn==2"),
        ("flash-attn>=2.5", "does not pin one version"),
        ("flash-attn==2.5.*", "does not pin one version"),
        ("flash-attn==2.5.3,!=2.5.4", "does not pin one version"),
        ("flash-attn===2.5.3", "does not pin one version"),
        ("flash-attn==2.5.3; python_version > '3'", "has a marker"),
        (
            "flash-attn[all]==2.5.3",
            r"extras all, .*: \['flash-attn==2\.5\.3'\]; what all would add has to be there before",
        ),
        (
            "mamba_ssm[Causal_Conv1d]",
            r"extras Causal_Conv1d, .*torch_extension_packages: \['mamba-ssm', causal-conv1d\]\.",
        ),
        ("flash-attn @ https://mirror.example/a.whl", "has a URL"),
        ("flash attn", "is not a requirement such as"),
        ("", "is not a requirement such as"),
        ("numpy==1.26.4", "numpy"),
        ("flash-attn==99.0", r"99\.0"),
    ],
)
def test_only_pinned_requirements_of_known_packages_can_be_guessed(term, words, environment):
    with pytest.raises(TorchExtensionError, match=words):
        choose_wheel(term, environment, guessing())


@pytest.mark.parametrize(
    ("term", "meant"),
    [
        ("flash-attention==2.8.3", "flash-attn"),
        ("flashattn", "flash-attn"),
        ("flash-attn2", "flash-attn"),
        ("flash_attn3", "flash-attn-3"),
        ("flashattn-hopper", "flash-attn-3"),
        ("transformer-engine[pytorch]==2.11.0", "transformer-engine-torch"),
        ("Transformer_Engine", "transformer-engine-torch"),
        ("mamba", "mamba-ssm"),
        ("causalconv1d", "causal-conv1d"),
        ("xformer", "xformers"),
        ("flash-attn-4", None),
        ("flash-attn-cute", None),
        ("transformer-engine-cu12", None),
        ("torch", None),
        ("numpy", None),
    ],
)
def test_a_name_that_is_near_to_one_of_the_table_is_asked_back(term, meant):
    with pytest.raises(TorchExtensionError, match="is not a package that this collection knows") as refusal:
        parse_requirement(term)
    assert ("Do you mean" in str(refusal.value)) == bool(meant)
    assert not meant or f"Do you mean {meant}?" in str(refusal.value)


@pytest.mark.parametrize("name", ["flash_attn", "Flash.Attn", "FLASH-ATTN"])
def test_a_name_may_be_spelt_as_its_standard_allows(name):
    assert parse_requirement(name).name == "flash-attn"


@pytest.mark.parametrize(
    "label", ["cu122torch2.2cxx11abifalse", "CU122torch2.2cxx11abiFALSE", "cu122torch2_2cxx11abiFALSE"]
)
def test_a_label_is_held_against_the_wheel_and_not_against_its_version(label, environment):
    requirement = parse_requirement(f"flash-attn==2.5.3+{label}")
    assert (str(requirement), requirement.version) == ("flash-attn==2.5.3", "2.5.3")
    answer = choose_wheel(f"flash-attn==2.5.3+{label}", environment, guessing())
    assert (answer["filename"], answer["conflicts"], answer["action"]) == (WHEEL, [], "install")


def test_a_guess_of_another_label_is_refused_with_both(environment):
    term = "flash-attn==2.5.3+cu118torch2.2cxx11abiFALSE"
    (conflict,) = choose_wheel(term, environment, guessing(), strict=False)["conflicts"]
    assert conflict == (
        f"The wheel for this node (source: guess) is {WHEEL}, which bears the label +cu122torch2.2cxx11abifalse, and"
        " +cu118torch2.2cxx11abifalse is asked for. 'flash-attn==2.5.3' in torch_extension_packages, without the label, takes it."
    )
    with pytest.raises(TorchExtensionError, match="bears the label"):
        choose_wheel(term, environment, guessing())


@pytest.mark.parametrize("version", ["parrots", "unknown", "", "None"])
@pytest.mark.parametrize("source", ["guess", "release", "astral", "known"])
def test_a_torch_without_a_number_is_refused_before_anybody_is_asked(source, version, environment, tmp_path):
    environment["torch"]["version"] = version
    nobody = SourceAccess(
        str(tmp_path), github_api_url="http://127.0.0.1:1", place_urls={"astral": "http://127.0.0.1:1"}
    )
    with pytest.raises(TorchExtensionError, match=f"says that its version is '{version}'.*torch_extension_python"):
        choose_wheel("flash-attn==2.5.3", environment, Settings(nobody, sources=(source,)))
    assert not (tmp_path / "api").exists()


@pytest.mark.parametrize(("term", "version"), [("==v99.1", "99.1"), ("==99.1-1", "99.1.post1"), ("==v2.5.3", "2.5.3")])
def test_an_unknown_version_is_asked_for_in_its_usual_spelling(term, version):
    assert parse_requirement(f"flash-attn{term}").version == version


@pytest.mark.parametrize("version", ["2.5.3", "2.5.3.0", "02.5.3"])
def test_a_version_may_be_spelt_as_its_standard_allows(version):
    requirement = parse_requirement(f"flash-attn=={version}")
    assert (requirement.name, requirement.version) == ("flash-attn", "2.5.3")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "environment is null, wanted is a dictionary"),
        ("{{ probe }}", "environment is '{{ probe }}', wanted is a dictionary"),
        ({}, "environment lacks python, platform, torch"),
        ({"changed": False, "environment": {}}, "environment lacks"),
    ],
)
def test_anything_but_an_environment_is_refused_even_if_not_strict(wrong, words):
    with pytest.raises(TorchExtensionError, match=f"{re.escape(words)}.*torch_info"):
        choose_wheel("flash-attn==2.5.3", wrong, guessing(), strict=False)


def test_no_wheel_is_an_error_or_if_not_strict_a_refusal_with_the_same_message(environment):
    environment["torch"] = None
    with pytest.raises(TorchExtensionError) as error:
        choose_wheel("flash-attn==2.5.3", environment, guessing())
    answer = choose_wheel("flash-attn==2.5.3", environment, guessing(), strict=False)
    assert answer["conflicts"] == [str(error.value)]
    assert (answer["name"], answer["url"], answer["action"]) == ("flash-attn==2.5.3", None, "refuse")
    assert "torch" in str(error.value)


def test_a_wheel_that_cannot_serve_the_node_is_refused_with_its_url(environment):
    environment["torch"].update(version="2.9.0+cu130", cuda="13.0", cxx11_abi=True)
    answer = choose_wheel("flash-attn==2.8.3", environment, guessing())
    assert "+cu12torch2.9" in answer["url"]
    assert answer["action"] == "refuse"
    assert ["CUDA 12" in conflict and "13" in conflict for conflict in answer["conflicts"]] == [True]


def test_an_old_pip_has_another_path_in_its_cache(environment):
    environment["installers"]["pip"] = "19.3.1"
    path = choose_wheel("flash-attn==2.5.3", environment, guessing(sdist_url=SDIST_URL))["pip_cache_path"]
    assert path.endswith(WHEEL)
    assert path != CACHED


REPORTED = {
    "requirement": "Flash_Attn == 2.5.3",
    "url": "http://index.example/a.tar.gz",
    "folder": "/c/wheels",
    "error": None,
}
FAILED = {**REPORTED, "url": None, "folder": None, "error": "the index is down"}
PIP_CACHE = guessing(pip_cache=True)


@pytest.mark.parametrize("pip_cache", [True, False])
def test_without_an_sdist_url_the_path_is_what_the_nodes_pip_reported(pip_cache, environment):
    environment["sdists"] = {"flash-attn": REPORTED}
    answer = choose_wheel("flash-attn==2.5.3", environment, guessing(pip_cache=pip_cache))
    assert (answer["pip_cache_path"], answer["sdist_url"]) == (f"/c/wheels/{WHEEL}", REPORTED["url"])
    assert (answer["action"], answer["conflicts"]) == ("examine", [])


def test_an_sdist_url_goes_before_what_the_nodes_pip_reported(environment):
    environment["sdists"] = {"flash-attn": FAILED}
    answer = choose_wheel("flash-attn==2.5.3", environment, guessing(sdist_url=SDIST_URL, pip_cache=True))
    assert (answer["pip_cache_path"], answer["sdist_url"]) == (CACHED, SDIST_URL)


@pytest.mark.parametrize(
    ("sdists", "words"),
    [
        ({"flash-attn": FAILED}, "the index is down"),
        (
            {"flash-attn": {**REPORTED, "requirement": "flash-attn==2.5.2"}},
            "Nobody has told.*torch_extension_sdist_url",
        ),
        ({"causal-conv1d": REPORTED}, "Nobody has told"),
        ({}, "Nobody has told"),
    ],
    ids=["failed", "another version", "another package", "not asked"],
)
def test_an_unknown_path_is_a_conflict_only_if_pips_cache_is_used(sdists, words, environment):
    environment["sdists"] = sdists
    answer = choose_wheel("flash-attn==2.5.3", environment, guessing())
    assert (answer["action"], answer["pip_cache_path"]) == ("install", None)
    with pytest.raises(TorchExtensionError, match=words) as error:
        choose_wheel("flash-attn==2.5.3", environment, PIP_CACHE)
    answer = choose_wheel("flash-attn==2.5.3", environment, PIP_CACHE, strict=False)
    assert (answer["action"], answer["conflicts"]) == ("refuse", [str(error.value)])


def test_an_unknown_path_is_a_conflict_beside_others(environment):
    environment["torch"].update(version="2.9.0+cu130", cuda="13.0", cxx11_abi=True)
    conflicts = choose_wheel("flash-attn==2.8.3", environment, PIP_CACHE, strict=False)["conflicts"]
    assert ["CUDA 12" in conflict for conflict in conflicts] == [True, False]


@pytest.mark.parametrize(
    ("cache", "pip", "words"),
    [
        ({"usable": False, "reason": "it is off"}, "24.0", "would not use its cache: it is off"),
        ({"only_binary": [":all:"]}, "24.0", "only-binary in its settings forbids the sdist of flash-attn"),
        ({"only_binary": ["flash-attn"], "no_binary": [":all:"]}, "24.0", "only-binary"),
        (
            {"no_binary": ["flash-attn"], "only_binary": [":all:"]},
            "23.0.1",
            "no-binary in its settings covers flash-attn",
        ),
        ({"no_binary": ["flash-attn"], "only_binary": [":all:"]}, "23.1", None),
        ({"no_binary": ["einops"], "only_binary": ["einops"]}, "20.0", None),
    ],
)
def test_settings_that_keep_pip_from_its_cache_are_a_conflict_only_if_the_cache_is_used(cache, pip, words, environment):
    environment["pip_cache"].update(cache)
    environment["installers"]["pip"] = pip
    answer = choose_wheel("flash-attn==2.5.3", environment, guessing(sdist_url=SDIST_URL, pip_cache=True), strict=False)
    assert (answer["action"] == "refuse") == bool(words)
    assert [words in conflict for conflict in answer["conflicts"]] == [True] * bool(words)
    assert choose_wheel("flash-attn==2.5.3", environment, guessing(sdist_url=SDIST_URL))["conflicts"] == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://m.example/a.tar.gz#sha256=abc", "sha256 in the sdist_url of flash-attn is 'abc', wanted are 64"),
        ("https://m.example/a.tar.gz#egg=a&md5=" + "g" * 32, "wanted are 32 hexadecimal digits"),
        ("https://m.example/a.tar.gz#SHA256=" + "a" * 65, "wanted are 64"),
        ("m.example/a.tar.gz", "no URL of a file"),
        (["https://m.example/a.tar.gz"], "is list, wanted is a URL"),
        ({"flash-attn": 5}, "is int, wanted is a URL"),
        ({"flash_atn": "https://m.example/a.tar.gz"}, "flash_atn"),
    ],
)
def test_a_bad_sdist_url_is_refused(url, words, environment):
    with pytest.raises(TorchExtensionError, match=words):
        choose_wheel("flash-attn==2.5.3", environment, guessing(sdist_url=url))


def test_an_installation_from_this_wheel_is_kept(environment):
    environment["distributions"]["flash-attn"] = "2.5.3"
    environment["origins"]["flash-attn"] = {"filename": WHEEL, "sha256": None}
    assert choose_wheel("flash-attn==2.5.3", environment, guessing())["action"] == "keep"


def test_the_environment_is_only_read_and_answers_share_nothing(environment):
    before = copy.deepcopy(environment)
    choose_wheel("flash-attn==2.5.3", environment, guessing())["conflicts"].append("mine")
    choose_wheel("flash-attn==2.5.3", environment, guessing())["imports"].append("mine")
    assert environment == before
    assert "mine" not in str(choose_wheel("flash-attn==2.5.3", environment, guessing()))


OTHERS = [f"flash_attn-2.5.3+cu122torch{torch}cxx11abiFALSE-cp311-cp311-linux_x86_64.whl" for torch in ("2.1", "2.0")]


@pytest.fixture
def others(tmp_path, environment):
    """Decides where there are only wheels for another torch."""
    for name in OTHERS:
        (tmp_path / name).write_bytes(b"wheel")

    def decide_by(term="flash-attn==2.5.3", strict=False, **settings):
        access = SourceAccess(cache=str(tmp_path / "cache"))
        return choose_wheel(term, environment, Settings(access, sources=(f"directory:{tmp_path}",), **settings), strict)

    return decide_by


def test_wheels_for_another_torch_are_listed_only_with_match_proven(others):
    exact, proven = others(match="exact"), others()
    assert exact["provable"] == []
    assert [each["filename"] for each in proven["provable"]] == OTHERS
    assert {**proven, "provable": []} == exact
    assert (proven["action"], len(proven["conflicts"])) == ("refuse", 1)
    with pytest.raises(TorchExtensionError, match=r"No wheel of flash-attn==2\.5\.3 fits this node"):
        others(strict=True)


def test_a_provable_wheel_is_a_whole_answer_that_can_replace_the_refusal(others, environment):
    environment["distributions"]["flash-attn"] = "2.5.3"
    environment["origins"]["flash-attn"] = {"filename": OTHERS[1], "sha256": None}
    answer = others("Flash_Attn>=2.5", upgrade=True, sdist_url=None, sha256={OTHERS[0]: "A" * 64})
    second, first = answer["provable"]  # what is installed is tried first, so that it stays as long as it works
    assert set(first) == set(answer), "it can take the place of the answer"
    assert (first["name"], first["requirement"], first["version"]) == ("flash-attn", "Flash_Attn>=2.5", "2.5.3")
    assert (first["sha256"], first["imports"], first["size"]) == ("a" * 64, ["flash_attn"], 5)
    assert (first["conflicts"], first["provable"], first["warnings"]) == ([], [], [])
    assert [first["action"], second["action"]] == ["replace", "keep"]
    assert first["ground"].startswith("its name says torch 2.1")


def test_a_provable_wheel_has_its_path_in_pips_cache(others):
    first = others(sdist_url=SDIST_URL)["provable"][0]
    assert (first["pip_cache_path"], first["action"]) == (CACHED.replace(WHEEL, OTHERS[0]), "examine")


def test_provable_wheels_without_a_required_hash_are_left_out_with_the_reason(others):
    answer = others(require_sha256=True, sha256={OTHERS[1]: "a" * 64})
    assert [each["filename"] for each in answer["provable"]] == [OTHERS[1]]
    assert f"{OTHERS[0]} has no published hash where it comes from" in answer["conflicts"][0]
    assert answer["action"] == "refuse"


def test_provable_wheels_without_a_path_in_pips_cache_are_left_out(others):
    answer = others(pip_cache=True)
    assert answer["provable"] == []
    assert answer["conflicts"][0].count("Nobody has told where the sdist") == 1


def test_a_hash_may_be_given_by_url_where_two_places_have_files_of_one_name(others, tmp_path):
    url = (tmp_path / OTHERS[0]).as_uri()
    first, second = others(sha256={url: "a" * 64, OTHERS[1]: "b" * 64, OTHERS[0]: "c" * 64})["provable"]
    assert (first["sha256"], second["sha256"]) == ("a" * 64, "b" * 64)


@pytest.fixture
def installed(environment):
    """Says that flash-attn is installed, from which file."""

    def install(version="2.5.3", filename=WHEEL, sha256="a" * 64):
        environment["distributions"]["flash-attn"] = version
        if filename:
            environment["origins"]["flash-attn"] = {"filename": filename, "sha256": sha256}

    return install


def decide(environment, tmp_path, term="flash-attn", **settings):
    """The first answer where no source can be asked: one that is asked nevertheless raises an error."""
    access = SourceAccess(cache=str(tmp_path / "cache"))
    settings = Settings(access, sources=(f"directory:{tmp_path}/nowhere",), **settings)
    return next(Decision(term, environment, settings).answers())


@pytest.mark.parametrize("term", ["flash-attn", "flash-attn>=2.5", "flash-attn<2.6", "flash-attn!=2.5.4"])
def test_what_is_installed_meets_an_open_requirement_and_fits_this_torch_is_kept_and_nobody_is_asked(
    term, installed, environment, tmp_path
):
    installed()
    wheel, needs_proof, error = decide(environment, tmp_path, term)
    assert (wheel["action"], wheel["version"], wheel["filename"], wheel["url"]) == ("keep", "2.5.3", WHEEL, None)
    assert wheel["reason"] == "flash-attn 2.5.3 is installed, and is for this torch"
    assert (needs_proof, error, wheel["source"], wheel["conflicts"]) == (False, None, "installed", [])


@pytest.mark.parametrize(
    ("term", "settings"),
    [
        ("flash-attn==2.5.3", {}),
        ("flash-attn>2.5.3", {}),
        ("flash-attn", {"upgrade": True}),
        ("flash-attn", {"keeps_installed": False}),  # a file in pip's cache or in a folder is wanted
    ],
)
def test_otherwise_the_sources_are_asked(term, settings, installed, environment, tmp_path):
    installed()
    with pytest.raises(TorchExtensionError, match="nowhere on the control node cannot be read"):
        decide(environment, tmp_path, term, **settings)


@pytest.mark.parametrize(
    ("version", "filename", "reason"),
    [
        ("2.5.3", None, "flash-attn 2.5.3 is installed, and nothing tells from which wheel"),
        ("2.5.3", "flash_attn-2.5.3-cp311-cp311-linux_x86_64.whl", "nothing tells for which torch it is"),
        ("2.5.3+cu122torch2.2cxx11abiFALSE", None, "nothing tells from which wheel"),  # it may be there in part only
        ("2.5.3", OTHERS[0], "flash-attn 2.5.3 is installed, and it is for torch 2.1, this node has torch 2.2.0+cu121"),
        ("2.5.3+cu122torch2.1cxx11abiFALSE", None, "and it is for torch 2.1"),
    ],
)
def test_what_is_installed_has_to_be_proven_where_nothing_tells_that_it_fits(
    version, filename, reason, installed, environment, tmp_path
):
    installed(version, filename)
    wheel, needs_proof, _error = decide(environment, tmp_path)
    assert (wheel["action"], needs_proof) == ("keep", True)
    assert reason in wheel["reason"]


@pytest.mark.parametrize(
    ("filename", "settings"),
    [
        (WHEEL.replace("cu122", "cu118"), {}),
        (WHEEL.replace("cp311", "cp310"), {}),
        (OTHERS[0], {"match": "exact"}),
    ],
)
def test_what_is_installed_and_cannot_fit_is_replaced(filename, settings, installed, environment, tmp_path):
    installed(filename=filename)
    with pytest.raises(TorchExtensionError, match="nowhere"):
        decide(environment, tmp_path, **settings)


@pytest.fixture
def damaged(installed, environment):
    """Says that flash-attn is installed, and that one of its files was changed."""
    installed()
    environment["damage"] = {"flash-attn": {"missing": [], "changed": ["flash_attn/__init__.py"]}}


def choose(environment, folder, term="flash-attn", **settings):
    """What is chosen from a folder."""
    settings = Settings(SourceAccess(str(folder), suggest=False), (f"directory:{folder}",), **settings)
    return choose_wheel(term, environment, settings, strict=False)


def offer(folder, *versions):
    for version in versions:
        (folder / WHEEL.replace("2.5.3", version)).write_bytes(b"wheel")


def test_what_is_not_whole_is_replaced_by_its_own_version(damaged, environment, tmp_path):
    offer(tmp_path, "2.5.3", "2.5.4")
    wheel = choose(environment, tmp_path)
    assert (wheel["version"], wheel["action"]) == ("2.5.3", "replace")
    assert wheel["reason"] == "flash-attn 2.5.3 is installed, but flash_attn/__init__.py is not as installed"
    wheel = choose(environment, tmp_path, upgrade=True)
    assert (wheel["version"], wheel["action"]) == ("2.5.4", "replace")


def test_what_is_not_whole_and_is_no_longer_to_be_had_is_replaced_by_the_newest(damaged, environment, tmp_path):
    offer(tmp_path, "2.5.2", "2.5.4")
    assert choose(environment, tmp_path)["version"] == "2.5.4"
    assert choose(environment, tmp_path, "flash-attn<2.5.4")["version"] == "2.5.2"


def test_what_is_not_whole_and_does_not_fit_anyway_is_replaced_by_the_newest(damaged, installed, environment, tmp_path):
    installed(filename=WHEEL.replace("cu122", "cu118"))
    offer(tmp_path, "2.5.3", "2.5.4")
    assert choose(environment, tmp_path)["version"] == "2.5.4"


def test_where_nothing_can_replace_it_the_refusal_says_why_it_was_asked_for(damaged, environment, tmp_path):
    for term in ("flash-attn", "flash-attn==2.5.3"):
        (conflict,) = choose(environment, tmp_path, term)["conflicts"]
        assert conflict.startswith("No wheel")
        assert conflict.endswith(
            "It has to be replaced, for flash-attn 2.5.3 is installed, but flash_attn/__init__.py is not as installed."
        )


def test_of_the_wheels_for_another_torch_each_is_offered_once_and_first_those_of_its_version(
    damaged, environment, tmp_path
):
    for version in ("2.5.3", "2.5.4"):
        (tmp_path / WHEEL.replace("2.5.3", version).replace("torch2.2", "torch2.1")).write_bytes(b"wheel")
    settings = Settings(SourceAccess(str(tmp_path)), (f"directory:{tmp_path}",))
    answers = list(Decision("flash-attn", environment, settings).answers())
    assert [answer.wheel["version"] for answer in answers] == ["2.5.3", "2.5.4"]
    assert all(answer.needs_proof for answer in answers)


@pytest.mark.parametrize("term", ["flash-attn", "flash-attn==2.5.3"])
def test_with_reinstall_what_is_installed_is_replaced_by_its_own_version(term, installed, environment, tmp_path):
    offer(tmp_path, "2.5.3", "2.5.4")
    installed(sha256=None)
    wheel = choose(environment, tmp_path, term, reinstall=True)
    assert (wheel["version"], wheel["action"]) == ("2.5.3", "replace")
    assert choose(environment, tmp_path, term)["action"] == "keep"


def test_a_fork_of_torch_is_refused_whatever_cuda_it_reports(environment, tmp_path):
    environment["torch"].update(version="2.8.0+metax3.7.1.3", cuda="11.6")
    with pytest.raises(TorchExtensionError, match=r"is the fork of torch by MetaX\. It is no torch for CUDA"):
        decide(environment, tmp_path)


def test_a_torch_whose_version_has_no_number_is_refused_in_words(environment, tmp_path):
    environment["torch"]["version"] = "nightly"
    (tmp_path / WHEEL).write_bytes(b"wheel")
    with pytest.raises(TorchExtensionError, match="its version is 'nightly'"):
        choose_wheel("flash-attn", environment, Settings(SourceAccess(str(tmp_path)), (f"directory:{tmp_path}",)))


def test_a_package_that_the_table_lacks_is_taken_from_a_folder_that_has_it(environment, tmp_path):
    (tmp_path / "our_kernels-0.1.0-cp311-cp311-linux_x86_64.whl").touch()
    (tmp_path / "torch-2.2.0-cp311-cp311-linux_x86_64.whl").touch()
    settings = Settings(SourceAccess(str(tmp_path), suggest=False), (f"directory:{tmp_path}",))
    decision = Decision("Our.Kernels>=0.1", environment, settings)
    [answer] = decision.answers()
    assert (answer.wheel["name"], answer.wheel["version"], answer.wheel["imports"]) == ("our-kernels", "0.1.0", [])
    for term in ("their-kernels", "torch"):
        with pytest.raises(TorchExtensionError, match=f"{term} is not a package that this collection knows"):
            list(Decision(term, environment, settings).answers())


@pytest.mark.parametrize(
    ("term", "torch", "words"),
    [
        ("flash-attn", None, "needs torch, and the environment has none"),
        ("flash-attn", {"version": "2.9.0+cpu", "cuda": None, "hip": None}, "is built for the CPU only"),
        ("flash-attn", {"version": "2.6.0+metax3.2"}, "is the fork of torch by MetaX"),
        ("flash-attn", {"version": "HEAD"}, "HEAD"),
        ("xformers2", {}, "xformers2"),
    ],
)
def test_an_environment_is_judged_as_the_plan_refuses_it_later(term, torch, words, environment, tmp_path):
    environment["torch"] = torch if torch is None else {**environment["torch"], **torch}
    [conflict] = judge_environment(term, environment)["conflicts"]
    assert words in conflict
    with pytest.raises(TorchExtensionError) as refusal:
        decide(environment, tmp_path, term)
    assert conflict == str(refusal.value)


def test_what_any_source_may_have_is_left_open(environment):
    judged = judge_environment("flash-attn>=2.7", environment)
    assert (judged["name"], judged["conflicts"], judged["action"]) == ("flash-attn", [], "install")
    environment["distributions"]["flash-attn"] = "2.8.3"
    assert judge_environment("flash-attn>=2.7", environment)["action"] == "examine"


def test_a_cache_that_pip_does_not_use_is_judged_if_wheels_are_for_it(environment):
    environment["pip_cache"].update(usable=False, reason="it is off")
    assert judge_environment("flash-attn", environment)["conflicts"] == []
    [conflict] = judge_environment("flash-attn", environment, pip_cache=True)["conflicts"]
    assert "it is off" in conflict


BUILT_NAME = "flash_attn-2.5.4+cu12torch2.2cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"


@pytest.fixture
def sdist(environment, tmp_path):
    environment["gpus"] = [{"name": "NVIDIA H200", "compute_capability": "9.0", "memory_mib": 143771}]
    path = tmp_path / "flash_attn-2.5.4.tar.gz"
    path.write_text("sdist")
    return path


def choose_or_build(environment, folder, term="flash-attn", **settings):
    access = SourceAccess(str(folder / "cache"), suggest=False)
    return choose_wheel(term, environment, Settings(access, (f"directory:{folder}", "build"), **settings), strict=False)


def test_what_no_source_has_is_to_be_built(sdist, environment, tmp_path):
    wheel = choose_or_build(environment, tmp_path)
    assert (wheel["action"], wheel["url"], wheel["filename"]) == ("build", None, BUILT_NAME)
    assert wheel["conflicts"] == []


def test_nothing_is_built_where_another_source_has_a_wheel(sdist, environment, tmp_path):
    offer(tmp_path, "2.5.3")
    assert choose_or_build(environment, tmp_path)["action"] == "install"


def test_a_wheel_that_the_node_may_prove_goes_before_one_that_is_built(sdist, environment, tmp_path):
    (tmp_path / WHEEL.replace("torch2.2", "torch2.1")).write_bytes(b"wheel")
    wheel = choose_or_build(environment, tmp_path)
    assert (wheel["action"], [each["version"] for each in wheel["provable"]]) == ("build", ["2.5.3"])
    assert choose_or_build(environment, tmp_path, match="exact")["provable"] == []


def test_what_is_installed_is_not_built_again_unless_the_wheel_itself_is_wanted(
    sdist, installed, environment, tmp_path
):
    installed(version="2.5.4", filename=BUILT_NAME)
    assert choose_or_build(environment, tmp_path, "flash-attn==2.5.4")["action"] == "keep"
    assert choose_or_build(environment, tmp_path, "flash-attn==2.5.4", keeps_installed=False)["action"] == "build"


def test_what_is_built_here_needs_no_published_hash(sdist, environment, tmp_path):
    assert choose_or_build(environment, tmp_path, require_sha256=True)["action"] == "build"


def test_a_built_wheel_that_is_installed_stays_unless_an_upgrade_is_wanted(sdist, installed, environment, tmp_path):
    store_built(tmp_path / "cache", environment, sdist)
    more = store_built(tmp_path / "cache", environment, sdist, architectures=("8.0", "9.0"), sha256="b" * 64)
    installed(version="2.5.4", filename=BUILT_NAME, sha256="a" * 64)
    assert choose_or_build(environment, tmp_path, "flash-attn==2.5.4")["action"] == "keep"
    upgraded = choose_or_build(environment, tmp_path, "flash-attn==2.5.4", upgrade=True)
    assert (upgraded["action"], upgraded["url"]) == ("replace", more.url)


def test_where_it_cannot_be_built_either_the_refusal_says_why(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (conflict,) = choose_or_build(environment, tmp_path)["conflicts"]
    assert "build: there is no sdist of flash-attn" in conflict
