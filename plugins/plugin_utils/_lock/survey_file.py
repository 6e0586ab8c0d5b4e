# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The survey: what the nodes inside a gap have, as it was carried out."""

from __future__ import annotations

import functools
import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import yaml_text

_VERSION = 1
_FIELDS = {"nodes": list, "packages": list, "environment": dict}  # of each kind of nodes
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


def read_survey(path: str) -> dict[str, t.Any]:
    """Read what the playbook survey has written.

    :returns: its ``survey_version`` and ``environments``, each with its ``nodes``, ``packages`` and ``environment``
    :raises TorchExtensionError: if it is no survey
    """
    path = os.path.realpath(os.path.expanduser(path))
    try:
        return _parse_survey(yaml_text.read_text(path))
    except (OSError, UnicodeDecodeError, yaml_text.YamlError) as exc:
        raise TorchExtensionError(
            f"{path} is no survey: {getattr(exc, 'strerror', None) or exc}. Wanted is what the playbook survey wrote inside the gap. Knob:"
            " torch_extension_survey."
        ) from exc


@functools.lru_cache(maxsize=2)  # a playbook asks for it in each of its templates
def _parse_survey(text: str) -> dict[str, t.Any]:
    """
    :raises yaml_text.YamlError: if it is no survey
    """
    survey = yaml_text.parse_yaml(text)
    if not isinstance(survey, dict) or survey.get("survey_version") != _VERSION:
        raise yaml_text.YamlError(f"it has not survey_version {_VERSION}")
    kinds = survey.get("environments")
    if not isinstance(kinds, list) or not kinds:
        raise yaml_text.YamlError("it has no nodes")
    for number, kind in enumerate(kinds, 1):
        for field, wanted in _FIELDS.items():
            if not isinstance(kind, dict) or not isinstance(kind.get(field), wanted):
                raise yaml_text.YamlError(f"its environment {number} has no {field}, or no {wanted.__name__} of them")
        for name in kind["nodes"]:
            if not isinstance(name, str) or not _HOST.fullmatch(name):
                raise yaml_text.YamlError(
                    f"its environment {number} names a node {name!a:.100}, wanted are letters, digits, and any of _.:- behind the first"
                )
        for name in kind["packages"]:
            if not isinstance(name, str) or not name.isprintable():
                raise yaml_text.YamlError(
                    f"its environment {number} names a package {name!a:.100}, wanted are texts that can be printed"
                )
        if not kind["nodes"]:
            raise yaml_text.YamlError(f"its environment {number} has no nodes")
    return survey
