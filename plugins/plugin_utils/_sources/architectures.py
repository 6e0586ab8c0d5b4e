# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""GPU architectures that a wheel is built for, as torch writes them in ``TORCH_CUDA_ARCH_LIST``: ``9.0``, ``9.0a``, ``12.0+PTX``."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.gpu_code import Target

_PTX = "+PTX"
_ARCHITECTURE = re.compile(r"(?P<major>[0-9]{1,2})\.(?P<minor>[0-9])(?P<feature>[af]?)(?P<ptx>\+PTX)?")


def check_architectures(names: t.Iterable[t.Any]) -> tuple[str, ...]:
    """What the operator writes in torch_extension_build_archs: each once, sorted.

    :raises TorchExtensionError: for anything else
    """
    for name in names:
        if not isinstance(name, str) or not _ARCHITECTURE.fullmatch(name):
            raise TorchExtensionError(
                f"{name!r} in torch_extension_build_archs is no architecture. Wanted is the compute capability of a GPU, as a text,"
                " such as '9.0', '9.0a' or '12.0+PTX'."
            )
    return sort_architectures(names)


def sort_architectures(names: t.Iterable[str]) -> tuple[str, ...]:
    """Each once, the oldest first."""
    return tuple(sorted(set(names), key=lambda name: (*_parse(name)[0], name)))


def gpu_architectures(environment: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    """The architectures of a node's GPUs; none where it has no GPU, or cannot say which.

    :param environment: what torch_info returned
    """
    capabilities = [gpu["compute_capability"] for gpu in environment.get("gpus") or ()]
    return sort_architectures(capability for capability in capabilities if capability)


def covers(built: t.Iterable[str], wanted: t.Iterable[str]) -> bool:
    """Whether a wheel that was built for some architectures runs on all that are wanted, as binary code or by its PTX."""
    targets = [_parse(name) for name in built]
    return all(any(_serves(*target, *_parse(name)) for target in targets) for name in wanted)


def _serves(target: Target, has_ptx: bool, wanted: Target, wants_ptx: bool) -> bool:
    if wanted.feature or wants_ptx:
        return (target, has_ptx or not wants_ptx) == (wanted, True)
    capability = (wanted.major, wanted.minor)
    return target.serves_as_binary(capability) or (has_ptx and target.serves_as_ptx(capability))


def _parse(name: str) -> tuple[Target, bool]:
    text = name.removesuffix(_PTX)
    return Target.parse(text.replace(".", "")), text != name


def describe_architectures(names: t.Iterable[str]) -> str:
    """In words for people: ``sm_80 and sm_90 with PTX``."""
    parts = []
    for name in names:
        target, has_ptx = _parse(name)
        parts.append(f"sm_{target.major}{target.minor}{target.feature}{' with PTX' if has_ptx else ''}")
    return " and ".join(parts) or "no GPU"
