# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Keep delivered wheels in a folder of an environment, and have the environment's pip look there."""

from __future__ import annotations

import json
import os
import re
import shlex
import typing as t
from urllib.parse import quote

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic, temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import read_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.locking import locked_folder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.users import user_name
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import (
    check_inside,
    check_ownership,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.uv import find_uv
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip import configuration
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.dry_run import explain_refusal
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.settings import (
    read_settings as read_pip_settings,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    INSTALL,
    KEEP,
    REPLACE,
    Action,
    apply_reinstall,
)

RECORD_SUFFIX = ".json"  # of the record of a package, which bears its name

_FOLDER = ("share", "airgap.torch_extensions", "wheels")
_CREDENTIALS = r"(://)[^/@\s]+@"


class PipConfChange(t.NamedTuple):
    """The text of a pip.conf, as it is and as it has to be."""

    path: str
    before: str
    after: str

    def diff(self) -> dict[str, str]:
        """What changes, for people: without the credentials that the file may hold."""
        before, after = (re.sub(_CREDENTIALS, r"\1********@", text) for text in (self.before, self.after))
        return {"before_header": self.path, "after_header": self.path, "before": before, "after": after}


def wheel_folder(environment: t.Mapping[str, t.Any]) -> str:
    """The folder that holds an environment's wheels."""
    return os.path.join(environment["python"]["prefix"], *_FOLDER)


def plan_pip_conf(environment: t.Mapping[str, t.Any]) -> PipConfChange:
    """What makes the pip.conf of an environment name the folder of wheels.

    :raises TorchExtensionError: if that would do harm
    """
    prefix = environment["python"]["prefix"]
    path, link = _pip_conf(prefix), _link(environment)
    effective = _effective_links(prefix)
    before = _read_pip_conf(path)
    if link in effective:
        return PipConfChange(path, before, before)
    if any(re.search(_CREDENTIALS, value) and value not in before for value in effective):
        raise TorchExtensionError(
            f"pip's find-links hold credentials in another file than {path}, which would take their place and which"
            f" anybody may read. Put them into {path} yourself, or use torch_extension_mode: install."
        )
    return PipConfChange(path, before, configuration.add_find_links(before, link, effective, path))


def plan_pip_conf_without(environment: t.Mapping[str, t.Any]) -> PipConfChange:
    """What makes the pip.conf of an environment name the folder of wheels no longer; with no text, the file is to go.

    :raises TorchExtensionError: if the file is written in a way that is not understood here
    """
    path, link = _pip_conf(environment["python"]["prefix"]), _link(environment)
    before = _read_pip_conf(path)
    if link not in before:
        return PipConfChange(path, before, before)
    return PipConfChange(
        path, before, configuration.remove_find_links(before, link, _effective_links(os.devnull), path)
    )


def _pip_conf(prefix: str) -> str:
    path = os.path.join(prefix, "pip.conf")
    check_inside(path, prefix)
    if os.path.islink(path) and not os.path.exists(path):
        raise TorchExtensionError(
            f"{path} is a link to {os.path.realpath(path)}, which does not exist: no file is made where a link leads. Nothing was"
            " changed. Remove the link, or make that file."
        )
    return path


def _link(environment: t.Mapping[str, t.Any]) -> str:
    """The folder of wheels as find-links names it."""
    folder = wheel_folder(environment)
    return f"file://{quote(folder)}" if re.search(r"\s", folder) else folder  # pip splits the setting at white space


def _effective_links(prefix: str) -> list[str]:
    """The find-links of pip, with the pip.conf of an environment; what is not the folder of one has none."""
    # without PIP_…, which are set for this run alone
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return read_pip_settings(prefix, environ).get("find-links", "").split()


def decide_action(
    wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], run: Run, reinstall: bool = False
) -> Action:
    """What to do with a wheel in the folder of an environment.

    :param reinstall: whether one that is there is put there again
    :raises TorchExtensionError: if it cannot be put there, or if the environment's installer would not take it from there
    """
    action = apply_reinstall(_decide_action(wheel, environment), reinstall)
    if action.action != KEEP:
        check_ownership(environment, written_folders(environment))
    reason = _explain_unused(wheel, environment, run)
    if reason:
        raise TorchExtensionError(f"{wheel['filename']} would be put in place in vain: {reason}. Nothing was changed.")
    return action


def _explain_unused(wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], run: Run) -> str | None:
    python, uv = environment["python"], find_uv(environment["python"]["prefix"])
    if environment["installers"]["pip"]:
        program = [python["executable"], "-B", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    elif uv:
        program = [uv, "pip"]
    else:
        return None  # whoever installs brings his own
    reason = explain_refusal(environment, wheel["name"], wheel["version"], program, run, os.environ)
    return reason and re.sub(_CREDENTIALS, r"\1********@", reason)


def add_wheels(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    requirements: t.Sequence[t.Mapping[str, t.Any]],
    folder: str,
    environment: t.Mapping[str, t.Any],
) -> None:
    """Put wheels, and the wheels that they require, into the folder of an environment and name it in its pip.conf.

    Any other wheel there of the same distribution gives way: it may be for another torch, and pip could not tell.

    :param wheels: each with ``name``, ``filename`` and ``sha256``
    :param requirements: likewise
    :param folder: where they lie (``wheel_file.delivered_path``)
    :raises TorchExtensionError: if something is wrong; nothing is changed then
    """
    check_ownership(environment, written_folders(environment))
    pip_names = {file["filename"]: _check_delivered(file, folder, environment) for file in (*wheels, *requirements)}
    with locked_folder(environment["python"]["prefix"]):
        _add_wheels(wheels, requirements, folder, environment, pip_names)


def _add_wheels(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    requirements: t.Sequence[t.Mapping[str, t.Any]],
    folder: str,
    environment: t.Mapping[str, t.Any],
    pip_names: t.Mapping[str, str],
) -> None:
    change = plan_pip_conf(environment)
    target = wheel_folder(environment)
    owner = os.stat(environment["python"]["prefix"])
    _make_folder(target, owner)
    hashes = {}
    for file in (*wheels, *requirements):
        source, name = wheel_file.delivered_path(file, folder), pip_names[file["filename"]]
        hashes[name] = atomic.copy_file(source, os.path.join(target, name), like=owner, sha256=file["sha256"])
        for other in _other_wheels(target, name):
            os.remove(os.path.join(target, other))
    for wheel in wheels:
        name = pip_names[wheel["filename"]]
        record = {
            "wheel": wheel["filename"],
            "file": name,
            "sha256": hashes[name],
            "requirements": {file["filename"]: hashes[pip_names[file["filename"]]] for file in requirements},
        }
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        atomic.write_bytes(_record_path(target, wheel["name"]), text.encode(), like=owner)
    if change.after != change.before:
        write_pip_conf(change, environment)


def list_leftovers(_wheels: t.Sequence[t.Mapping[str, t.Any]], environment: t.Mapping[str, t.Any]) -> list[str]:
    """What killed runs have left beside wheels and settings: paths."""
    folders = (wheel_folder(environment), environment["python"]["prefix"])
    return [os.path.join(folder, name) for folder in folders for name in temporary.list_leftovers(folder)]


def remove_leftovers(
    wheels: t.Sequence[t.Mapping[str, t.Any]],
    environment: t.Mapping[str, t.Any],
    _warn: t.Callable[[str], object] = lambda text: None,
) -> list[str]:
    """Remove what killed runs have left. Returns the paths of it.

    :raises TorchExtensionError: if the environment is somebody else's
    """
    check_ownership(environment, written_folders(environment))
    return [path for path in list_leftovers(wheels, environment) if temporary.remove_leftover(path)]


def _decide_action(wheel: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any]) -> Action:
    folder, change = wheel_folder(environment), plan_pip_conf(environment)
    record = read_record(folder, wheel["name"])
    if record is None:
        return Action(INSTALL, f"{folder} has no wheel of {wheel['name']}")
    if record["wheel"] != wheel["filename"]:
        return Action(REPLACE, f"{folder} holds {record['wheel']}")
    if wheel["sha256"] and wheel["sha256"].lower() != record["sha256"]:
        return Action(REPLACE, f"{folder} holds a file of this name with sha256 {record['sha256']}")
    others = _other_wheels(folder, record["file"])
    if others:
        return Action(REPLACE, f"{folder} holds {', '.join(others)} too")
    needed = {
        name: digest
        for name, digest in record["requirements"].items()
        if environment["distributions"].get(wheel_file.parse_name(name).name) is None  # else it is installed
    }
    for name, digest in {record["file"]: record["sha256"], **needed}.items():
        try:
            check_sha256(os.path.join(folder, name), digest)
        except TorchExtensionError as exc:
            return Action(REPLACE, f"{folder} holds a damaged wheel: {exc}")
    if change.before != change.after:
        return Action(INSTALL, f"{change.path} does not name {folder}")
    return Action(KEEP, f"{folder} holds this wheel")


def written_folders(environment: t.Mapping[str, t.Any]) -> tuple[str, str]:
    """The folders that are written to: the environment's own, for its pip.conf, and the nearest existing one for the wheels.

    :raises TorchExtensionError: if root would follow another user's link out of the environment
    """
    folder = wheel_folder(environment)
    check_inside(folder, environment["python"]["prefix"])
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return environment["python"]["prefix"], folder


def _check_delivered(wheel: t.Mapping[str, t.Any], folder: str, environment: t.Mapping[str, t.Any]) -> str:
    """Check a delivered wheel. Returns the name under which pip takes it from a folder."""
    metadata = wheel_file.check_delivered(wheel, folder, environment)
    # pip >= 20.3 passes over a wheel in a folder whose name has another version than its METADATA: the official ones
    # have a label in the name alone.
    stem, _version, rest = wheel["filename"].split("-", 2)
    name = f"{stem}-{metadata.version}-{rest}"
    wheel_file.parse_name(name)
    return name


def _other_wheels(folder: str, name: str) -> list[str]:
    """Other wheels of the same distribution."""
    distribution = wheel_file.parse_name(name).name
    wheels = {entry: wheel_file.parse_name_or_none(entry) for entry in os.listdir(folder)}
    return sorted(entry for entry, wheel in wheels.items() if entry != name and wheel and wheel.name == distribution)


def _make_folder(folder: str, owner: os.stat_result) -> None:
    """Make a folder that anybody may look into, as an environment's folders are."""
    if not os.path.isdir(folder):
        _make_folder(os.path.dirname(folder), owner)
        atomic.make_folder(folder, 0o755, owner)


def _record_path(folder: str, name: str) -> str:
    return os.path.join(folder, canonical(name) + RECORD_SUFFIX)


def read_record(folder: str, name: str) -> dict[str, t.Any] | None:
    """What we recorded of a package's wheel: in the folder, its file name has lost the label that says for which torch it is."""
    try:
        record = read_json(_record_path(folder, name))
        for filename in (record["file"], *record["requirements"]):
            wheel_file.parse_name(filename)  # holds no path
        return {key: record[key] for key in ("wheel", "file", "sha256", "requirements")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, TorchExtensionError):
        return None


def _read_pip_conf(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except PermissionError as exc:
        owner = user_name(os.stat(os.path.dirname(path)).st_uid)
        raise TorchExtensionError(
            f"{path} belongs to {user_name(os.stat(path).st_uid)}, and user {user_name(os.geteuid())} cannot read it. Nothing was changed."
            f" As root, chown {owner}: {shlex.quote(path)} gives it to the owner of the environment."
        ) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise TorchExtensionError(
            f"{path} cannot be read ({type(exc).__name__}). Mend it, or become its owner (become, become_user)."
        ) from exc


def write_pip_conf(change: PipConfChange, environment: t.Mapping[str, t.Any]) -> None:
    """Write a pip.conf as it has to be; one that sets nothing any more is removed."""
    path = os.path.realpath(change.path)  # a link stays one
    owner, mode = os.stat(environment["python"]["prefix"]), 0o644
    if os.path.exists(path):
        owner = os.stat(path)
        mode = owner.st_mode & 0o7777
    if change.after or os.path.islink(change.path):
        atomic.write_bytes(path, change.after.encode(), mode, owner)
    else:
        os.unlink(path)
