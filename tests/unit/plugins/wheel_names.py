# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of wheels, and their judgement."""

from __future__ import annotations

from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging

TAGS = "cp311-cp311-linux_x86_64"


def wheel(label="cu12torch2.8cxx11abiTRUE", version="2.8.3", tags=TAGS, name="flash_attn"):
    """The name of a wheel."""
    plus = f"+{label}" if label else ""
    return f"{name}-{version}{plus}-{tags}.whl"


def judge(filenames, environment, name="flash-attn"):
    assets = [judging.Asset(item, f"https://gh.example/{item}") for item in filenames]
    return judging.judge_wheels(name, assets, environment)
