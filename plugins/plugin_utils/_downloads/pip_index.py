# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What the index of the control node's pip has for a node: with pip's own settings (index, credentials, CA)."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.sizes import parse_size
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import read_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.locking import locked_folder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.output import innermost_reason
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.settings import read_settings
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import compatibility_tags, wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.recorded import RecordedFile
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http_session

if t.TYPE_CHECKING:
    from packaging.requirements import Requirement

_TIMEOUT_SECONDS = 300
_SIZE_TIMEOUT_SECONDS = 10
#: warnings of pip's, the latter with the error in it as Python writes it
_UNTRUSTED = re.compile("WARNING: (The repository located at .* is not a trusted or secure host)")
_CONNECTION_BROKEN = re.compile("after connection broken by '(.*)': ")
_REMEDY = "Configure pip on the control node (index-url, proxy, cert in pip.conf, or PIP_… in the environment)"


class Unobtainable(TorchExtensionError):  # noqa: N818 (it is a fact as well, where the node has what cannot be had)
    """There is no wheel of a requirement."""

    def __init__(self, requirement: Requirement, required_by_file: str, reason: str, remedy: str) -> None:
        """
        :param required_by_file: name of the wheel that declares it
        :param reason: completes a sentence that begins with the requirement
        :param remedy: a sentence without its end
        """
        self.name = canonical(requirement.name)
        self.fact = f"{self.name}{requirement.specifier}, which {required_by_file} requires"
        self.reason, self.remedy = reason, remedy
        super().__init__(
            f"{self.fact} and the node lacks, {reason} {remedy}, or install {self.name} on the node beforehand."
        )


class Listed(t.NamedTuple):
    """A wheel on the index that meets a requirement."""

    filename: str
    requires: tuple[str, ...]  # Requires-Dist of its METADATA
    sha256: str | None
    size: int | None  # bytes; None if the index does not tell
    url: str | None = None  # may hold credentials, and is not to be shown


def download(
    requirement: Requirement,
    environment: t.Mapping[str, t.Any],
    folder: str,
    required_by_file: str,
    index: str | None = None,
) -> str:
    """Download the wheel that meets a requirement on a node, the newest one.

    :param environment: of the node, whose Python and platform count
    :param required_by_file: the name of the wheel that declares it, for messages
    :param index: to ask in the place of the one that pip is set to
    :returns: its path in the folder
    :raises Unobtainable: if there is none, or the index cannot be asked
    """
    with _part_folder(folder) as part:
        return _keep(_download_one(requirement, environment, part, required_by_file, index), part, folder)


@contextlib.contextmanager
def _part_folder(folder: str) -> t.Iterator[str]:
    """Make a folder for what is on its way to a folder of the cache."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    temporary.remove_leftovers(folder)
    with temporary.temporary_folder(folder) as part:
        yield part


def _keep(filename: str, part: str, folder: str) -> str:
    """Move a file that has come to the folder of the cache, with its hash. Returns its path there."""
    path = os.path.join(folder, filename)
    came = os.path.join(part, filename)
    digest = sha256_of(came)
    with locked_folder(folder):  # another process may have the same file
        RecordedFile(path).keep(came, digest)
    return path


def download_all(
    requirements: t.Sequence[Requirement], environment: t.Mapping[str, t.Any], folder: str
) -> list[str] | None:
    """Download the wheels that meet several requirements, in one go: to start pip takes longer than most of these.

    :returns: their paths in the folder; None if not all of them can be had
    """
    with _part_folder(folder) as part:
        errors = _pip_download([_specification(requirement) for requirement in requirements], environment, part)
        files = sorted(os.listdir(part))
        if errors is not None or len(files) != len(requirements):
            return None
        return [_keep(file, part, folder) for file in files]


def look_up(
    requirement: Requirement, environment: t.Mapping[str, t.Any], required_by_file: str, index: str | None = None
) -> Listed:
    """The wheel that :func:`download` would download. Nothing is kept of what pip reads for it.

    :raises Unobtainable: likewise
    """
    with tempfile.TemporaryDirectory(prefix="torch_extensions-") as scratch:
        report = os.path.join(scratch, "report.json")
        options = ["install", "--dry-run", "--ignore-installed", f"--report={report}", f"--target={scratch}/target"]
        errors = _run_pip(options, [*_index_options(index), _specification(requirement)], environment)
        if os.path.isfile(report):
            (item,) = read_json(report)["install"]
            return _read_report(item)
        if errors and "no such option" not in errors:
            raise Unobtainable(requirement, required_by_file, _explain_nothing_found(errors, index), _REMEDY)
        # pip before 22.2 can only download
        filename = _download_one(requirement, environment, scratch, required_by_file, index)
        path = os.path.join(scratch, filename)
        return Listed(filename, wheel_file.read_metadata(path).requires, None, os.path.getsize(path))


def _read_report(item: t.Mapping[str, t.Any]) -> Listed:
    """Read pip's report of one wheel (pip's documentation, "Installation Report")."""
    url, hashes = item["download_info"]["url"], item["download_info"].get("archive_info", {}).get("hashes", {})
    filename = os.path.basename(unquote(urlsplit(url).path))
    wheel_file.parse_name(filename)
    requires = tuple(item["metadata"].get("requires_dist", ()))
    return Listed(filename, requires, hashes.get("sha256"), _ask_size(url), url)


def _ask_size(url: str) -> int | None:
    """The size of a file, which pip's report lacks; None where it is not to be had without what only pip knows, such as a password."""
    parts = urlsplit(url)
    certificates = read_settings(sys.prefix, os.environ).get("cert")
    try:
        if parts.scheme == "file":
            return os.path.getsize(unquote(parts.path))
        with (
            http_session.explain_http_errors(url),
            http_session.open_session(retries=False) as session,
            session.head(
                url, allow_redirects=True, stream=True, timeout=_SIZE_TIMEOUT_SECONDS, verify=certificates or True
            ) as answer,
        ):
            return parse_size(answer.headers.get("Content-Length")) if answer.ok else None
    except (TorchExtensionError, OSError):
        return None


def download_locked(item: t.Mapping[str, t.Any], environment: t.Mapping[str, t.Any], folder: str) -> None:
    """Download the very file that a lock names.

    :param item: its ``name``, ``version``, ``filename`` and ``sha256``
    :raises TorchExtensionError: if it cannot be had
    """
    with _part_folder(folder) as part, tempfile.TemporaryDirectory() as scratch:
        requirements_path = os.path.join(scratch, "requirements.txt")
        with open(requirements_path, "w", encoding="utf-8") as file:
            file.write(f"{item['name']}=={item['version']} --hash=sha256:{item['sha256']}\n")
        # The lock decides whether the file suits the node's Python, whose patch release it does not record.
        errors = _pip_download(
            ["--ignore-requires-python", "--require-hashes", "-r", requirements_path], environment, part
        )
        if errors is not None or os.listdir(part) != [item["filename"]]:
            raise TorchExtensionError(
                f"{item['filename']} with sha256 {item['sha256']}, as the lock has it, cannot be had from the index of"
                f" the control node: {errors or 'it gave ' + ', '.join(os.listdir(part))} {_REMEDY}, or run the playbook lock again."
            )
        _keep(item["filename"], part, folder)


def _download_one(
    requirement: Requirement,
    environment: t.Mapping[str, t.Any],
    folder: str,
    required_by_file: str,
    index: str | None,
) -> str:
    """Download one wheel into an empty folder. Returns its name."""
    before = set(os.listdir(folder))
    errors = _pip_download([*_index_options(index), _specification(requirement)], environment, folder)
    files = sorted(set(os.listdir(folder)) - before)
    if errors is not None or len(files) != 1:
        raise Unobtainable(requirement, required_by_file, _explain_nothing_found(errors, index), _REMEDY)
    return files[0]


def _index_options(index: str | None) -> list[str]:
    return ["--index-url", index] if index else []


def _specification(requirement: Requirement) -> str:
    return f"{canonical(requirement.name)}{requirement.specifier}"


def _explain_nothing_found(errors: str | None, index: str | None) -> str:
    return f"cannot be had from {index or 'the index of the control node'}: {errors or ''}"


def _pip_download(arguments: list[str], environment: t.Mapping[str, t.Any], folder: str) -> str | None:
    """Download into a folder. Returns pip's error, or None."""
    return _run_pip(["download", "--progress-bar=off", "--dest", folder], arguments, environment)


def _run_pip(options: list[str], arguments: list[str], environment: t.Mapping[str, t.Any]) -> str | None:
    """Have pip choose with the tags of a node, wheels alone. Returns its error, or None.

    :param options: the command and its options
    """
    python = environment["python"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *options]
    command += ["--no-deps", "--quiet", "--only-binary=:all:"]
    command += ["--implementation", python["tag"][:2], "--python-version", python["version"]]
    command += [item for tag in (python["abi"], "abi3", "none") for item in ("--abi", tag)]
    command += [
        item for tag in compatibility_tags.platform_tags(environment["platform"]) for item in ("--platform", tag)
    ]
    try:
        result = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_TIMEOUT_SECONDS} s"
    if result.returncode == 0:
        return None
    lines = result.stderr.splitlines()
    # to pip, an index that cannot be asked is one that has nothing
    broken = [innermost_reason(match[1]) for match in map(_CONNECTION_BROKEN.search, lines) if match]
    unasked = broken or [match[1] for match in map(_UNTRUSTED.search, lines) if match]
    if unasked:
        return f"the index could not be asked ({unasked[-1]})."
    return " ".join([line for line in lines if line.startswith("ERROR")] or lines[-1:])
