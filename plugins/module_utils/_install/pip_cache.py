# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Put a delivered wheel where the node's own pip looks for one that it built itself."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic, temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import read_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.locking import locked_folder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import check_writable
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    INSTALL,
    KEEP,
    REPLACE,
    Action,
)

_ORIGIN = "origin.json"  # pip >= 22.2; hash-checking mode (pip >= 23.1) wants the sdist's hash in it
_MARK = "airgap.torch_extensions.json"  # which wheel we have put there; pip looks at wheels and its own files alone
RECORDS = (_ORIGIN, _MARK)  # beside a wheel


def decide_action(wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> Action:
    """What to do with a wheel in pip's cache.

    :raises TorchExtensionError: if pip would not look there, or this user cannot put anything there that has to
    """
    action = _decide_action(wheel, environment)
    if action.action != KEEP:
        check_writable(os.path.dirname(_checked_path(wheel, environment)), environment["pip_cache"]["dir"])
    return action


def _decide_action(wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> Action:
    path = _checked_path(wheel, environment)
    others = _other_wheels(path)
    if others:
        return Action(
            REPLACE, f"pip's cache holds {', '.join(others)} in its place, of which pip would choose by the alphabet"
        )
    if not os.path.lexists(path):
        return Action(INSTALL, f"pip's cache has no wheel of {wheel['name']} {wheel['version']}")
    try:
        check_sha256(path, wheel["sha256"])
        wheel_file.check_metadata(path, wheel["filename"])
    except TorchExtensionError as exc:
        return Action(REPLACE, f"pip's cache holds a damaged wheel: {exc}")
    return Action(KEEP, "pip's cache holds this wheel")


def add_wheel(wheel: t.Mapping[str, t.Any], folder: str, environment: t.Mapping[str, t.Any]) -> None:
    """Put a wheel into pip's cache, in place of any other wheel there.

    :param wheel: with ``filename``, ``sha256``, ``pip_cache_path`` and ``sdist_url``
    :param folder: where it lies (``wheel_file.delivered_path``)
    :raises TorchExtensionError: if pip would not use it; nothing is changed then
    """
    path = _checked_path(wheel, environment)
    source = wheel_file.delivered_path(wheel, folder)
    metadata = wheel_file.check_delivered(wheel, folder, environment)
    if metadata.version != wheel_file.public_version(metadata.version):
        # pip >= 20.3 compares METADATA with the version of the sdist, and fails the whole installation.
        raise TorchExtensionError(
            f"pip would refuse {wheel['filename']} from its cache: its METADATA says {metadata.version}, the sdist"
            f" {wheel['version']}. Use torch_extension_mode: install."
        )
    target = os.path.dirname(path)
    os.makedirs(environment["pip_cache"]["dir"], exist_ok=True)
    with locked_folder(environment["pip_cache"]["dir"]):
        os.makedirs(target, exist_ok=True)
        mark = json.dumps({"wheel": wheel["filename"]})
        atomic.write_bytes(os.path.join(target, _MARK), mark.encode())
        atomic.copy_file(source, path, sha256=wheel["sha256"])
        origin = json.dumps(_direct_url(wheel["sdist_url"]))
        atomic.write_bytes(os.path.join(target, _ORIGIN), origin.encode())
        for other in _other_wheels(path):
            os.remove(os.path.join(target, other))


def wheels_folder(environment: t.Mapping[str, t.Any]) -> str:
    """The folder of pip's cache that has wheels, each in a folder of its sdist, four levels below."""
    return os.path.join(environment["pip_cache"]["dir"] or os.devnull, "wheels")


def find_in_cache(pattern: str, environment: t.Mapping[str, t.Any]) -> list[str]:
    """The paths of files in pip's cache, wherever their sdists have put them.

    :param pattern: of their names
    """
    return sorted(glob.glob(os.path.join(glob.escape(wheels_folder(environment)), *["*"] * 4, pattern)))


def list_leftovers(_wheels: t.Sequence[t.Mapping[str, t.Any]], environment: t.Mapping[str, t.Any]) -> list[str]:
    """What killed runs have left in pip's cache: paths."""
    return [path for path in find_in_cache(f"{temporary.PREFIX}*", environment) if temporary.is_leftover(path)]


def remove_leftovers(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    environment: t.Mapping[str, t.Any],
    _warn: t.Callable[[str], object] = lambda text: None,
) -> list[str]:
    """Remove what killed runs have left. Returns the paths of it.

    :raises TorchExtensionError: if this user cannot
    """
    leftovers = list_leftovers(wheels, environment)
    for folder in {os.path.dirname(path) for path in leftovers}:
        check_writable(folder, environment["pip_cache"]["dir"])
    return [path for path in leftovers if temporary.remove_leftover(path)]


def is_ours(path: str) -> bool:
    """Whether a wheel in pip's cache was put there by us, and not built by pip.

    pip names a wheel after its METADATA, and the projects' own have a label in the name alone.
    """
    folder, filename = os.path.split(path)
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        if read_json(os.path.join(folder, _MARK))["wheel"] == filename:
            return True
    with contextlib.suppress(TorchExtensionError):
        return wheel_file.read_metadata(path).version != wheel_file.parse_name(filename).version
    return False


def _checked_path(wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> str:
    """Where pip looks for a wheel.

    :raises TorchExtensionError: if pip does not use its cache, or the path is outside of it
    """
    cache, path = environment["pip_cache"], wheel["pip_cache_path"]
    if not cache["usable"]:
        raise TorchExtensionError(
            f"pip of this node would not use its cache: {cache['reason']}. Mend that, or use torch_extension_mode:"
            " install."
        )
    pattern = re.escape(os.path.join(cache["dir"], "wheels")) + r"(/[0-9a-f]+){4}/" + re.escape(wheel["filename"])
    if not path or not re.fullmatch(pattern, path):
        raise TorchExtensionError(
            f"{path} is no place in pip's cache on this node, which is {cache['dir']}. Probe the node as the user who"
            " runs pip."
        )
    return path


def _other_wheels(path: str) -> list[str]:
    """Other wheels in the folder of a wheel: they were built from the same sdist, for another torch."""
    folder, filename = os.path.split(path)
    try:
        entries = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(entry for entry in entries if entry.endswith(".whl") and entry != filename)


def _direct_url(sdist_url: str) -> dict[str, t.Any]:
    """What pip itself records of the sdist: a direct URL (PEP 610)."""
    url, _hash, fragment = sdist_url.partition("#")
    digest = re.search(r"(?:^|&)sha256=([0-9a-f]{64})(?:&|$)", fragment)
    hashes = {"hashes": {"sha256": digest.group(1)}, "hash": f"sha256={digest.group(1)}"} if digest else {}
    return {"archive_info": hashes, "url": url}
