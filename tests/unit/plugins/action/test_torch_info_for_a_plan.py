# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("torch_libraries")


@pytest.fixture
def environment(on_node, venv):
    """The environment as it is told for some packages."""
    return lambda **arguments: on_node("torch_info", python=str(venv), **arguments)["environment"]


@pytest.mark.parametrize("packages", ["flash-attn>=2.7,<2.9,causal-conv1d", ["flash-attn>=2.7,<2.9", "causal-conv1d"]])
def test_packages_are_a_list_or_a_string(environment, packages):
    told = environment(packages=packages, distributions=["einops"])["distributions"]
    assert told.items() >= {"flash-attn": None, "causal-conv1d": None, "einops": None}.items()
    assert "pip" in told


@pytest.mark.parametrize(
    ("sdist_url", "asked"),
    [
        ("", {"flash-attn", "causal-conv1d"}),
        ({"Causal.Conv1d": "https://mirror.example/causal_conv1d-1.5.0.tar.gz"}, {"flash-attn"}),
        ("https://mirror.example/flash_attn-2.8.3.tar.gz", set()),
    ],
)
def test_for_pips_cache_the_nodes_pip_is_asked_for_sdists_that_nobody_has_told(environment, sdist_url, asked):
    packages = "flash-attn==2.8.3,causal-conv1d==1.5.0,mamba-ssm>=2,<3"
    assert environment(packages=packages, mode="pip_cache", sdist_url=sdist_url)["sdists"].keys() == asked
    assert environment(packages=packages, mode="install", sdist_url=sdist_url)["sdists"] == {}


def test_a_mode_that_is_none_is_refused(on_node, venv):
    refused = on_node("torch_info", python=str(venv), packages=["flash-attn"], mode="instal")
    assert refused["failed"]
    assert "value of mode must be one of: install, pip_cache, find_links, got: instal" in refused["msg"]
