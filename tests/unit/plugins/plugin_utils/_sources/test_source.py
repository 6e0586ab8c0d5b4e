# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources import source as source_module


@pytest.mark.parametrize("text", source_module.SOURCE_EXAMPLES.values())
def test_each_example_in_the_error_message_is_a_valid_source(text):
    source = source_module.parse_source(text)
    assert text == source.text == ":".join(filter(None, [source.kind, source.location]))


def test_a_path_may_start_with_a_tilde(home):
    assert source_module.parse_source("directory:~/wheels").location == f"{home}/wheels"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no source of wheels. Wanted is one of: release, guess, github:"),
        ("releases", "is no source of wheels"),
        ("release:v2.8.3", "is no source of wheels"),
        ("github", "is no source of wheels"),
        ("index:", "is no source of wheels"),
        ("https://wheels.example/", "is no source of wheels"),
        ("/srv/wheels", "is no source of wheels"),
        ({"github": "a/b"}, "is no source of wheels"),
        ("github:flash-attention", "names no repository. Wanted is github:OWNER/NAME"),
        ("github:https://github.com/a/b", "names no repository"),
        ("github:../../x/y", "names no repository"),
        ("directory:wheels", "has a relative path"),
        ("bundle:./bundle.tar", "has a relative path"),
        ("index:wheels.example", "is no address of a server"),
        ("index:https://me:hunter2@wheels.example/", "holds credentials for wheels.example.*netrc"),
    ],
)
def test_an_invalid_source_is_refused(text, words):
    with pytest.raises(TorchExtensionError, match=words) as refusal:
        source_module.parse_source(text)
    assert "hunter2" not in str(refusal.value)
