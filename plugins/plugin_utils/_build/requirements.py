# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The wheels that the environment of a build is made of: its tools, and torch where the builder has not the right one."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.torch import parse_constants
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream import builds
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import (
    compatibility_tags,
    wheel_file,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._cache.recorded import RecordedFile
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads import pip_index
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.context import DownloadContext
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.pip_index import Unobtainable
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import Declaring, Required
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.remote_zip import RemoteFile
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.places import PLACES

with contextlib.suppress(ImportError):  # decision.py says so, before anything comes here
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import parse_wheel_filename
    from packaging.version import Version

_TORCH = "torch"
_PLACE = "pytorch"  # of builds of torch for each CUDA
_VERSION_FILE = "torch/version.py"
_MAX_VERSION_FILE = 64 << 10  # bytes; real ones have 300


def find_build_requirements(
    sdist: str,
    build_requires: t.Iterable[str],
    build: builds.Build,
    torch: str,
    environment: t.Mapping[str, t.Any],
    context: DownloadContext,
) -> list[Required]:
    """The wheels of all that a build needs beside torch, and of all that these require; from the cache, or downloaded into it.

    :param sdist: the name of its file, for messages
    :param build_requires: what the sdist itself lists (PEP 508)
    :param build: what the table has of the package
    :param torch: the version that is compiled against
    :param environment: of the builder, whose Python and platform count
    :raises TorchExtensionError: if one of them cannot be read or had
    """
    requires = [*builds.list_requirements(build, torch), *_check_requirements(sdist, build_requires)]
    with explain_unobtainable():
        return context.requirement_finder().find_closure(requires, environment, sdist)


def find_torch_wheels(
    environment: t.Mapping[str, t.Any],
    version: str,
    cuda: str | None,
    context: DownloadContext,
    place_urls: t.Mapping[str, str] | None = None,
) -> list[Required]:
    """The wheels of a build of torch, and of all that it requires; from the cache, or downloaded into it.

    What each build has anyway, such as setuptools, is left out.

    :param environment: of the builder, whose Python and platform count
    :param version: of torch; a local label does not count, for what it tells is the CUDA
    :param cuda: that torch is to be built for, as in "13.0"; None for a build without
    :param place_urls: mirrors of known places, by name
    :raises TorchExtensionError: if there is no such build
    """
    with explain_unobtainable():
        torch = _find_torch(environment, wheel_file.public_version(version), cuda, context, place_urls or {})
        without = {_TORCH, *(canonical(name) for name in builds.REQUIREMENTS)}
        finder = context.requirement_finder()
        return [torch, *finder.find_closure(torch.requires, environment, torch.filename, without)]


def _check_requirements(sdist: str, texts: t.Iterable[str]) -> list[str]:
    """Refuse what no index has."""
    checked = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as exc:
            reason = str(exc).splitlines()[0].rstrip(".")
            raise TorchExtensionError(
                f"{sdist} lists a build requirement {text[:200]!r} that cannot be read: {reason}. Correct its pyproject.toml."
            ) from exc
        if requirement.url:
            raise TorchExtensionError(
                f"{sdist} lists the build requirement {requirement.name} by an address, wanted is one that the index of the control"
                " node has. Correct its pyproject.toml."
            )
        checked.append(text)
    return checked


@contextlib.contextmanager
def explain_unobtainable(alternative: str = "") -> t.Iterator[None]:
    """What is installed on the node, of which the usual message speaks, does not help a build.

    :param alternative: what else the operator can do, a sentence without its end
    """
    try:
        yield
    except Unobtainable as exc:
        end = f" {alternative}." if alternative else ""
        raise TorchExtensionError(f"{exc.fact} for the build, {exc.reason} {exc.remedy}.{end}") from exc


def _find_torch(
    environment: t.Mapping[str, t.Any],
    version: str,
    cuda: str | None,
    context: DownloadContext,
    place_urls: t.Mapping[str, str],
) -> Required:
    folder = os.path.join(context.cache, "requirements")
    found = _find_cached(folder, version, cuda, environment)
    if found:
        return found
    refusals = []
    for index, requirement in _offers(version, cuda, place_urls):
        where = index or "the index of the control node"
        try:
            listed = pip_index.look_up(requirement, environment, "the build", index)
        except Unobtainable as exc:
            refusals.append(f"{requirement} {exc.reason.rstrip('.')}.")
            continue
        told = _ask_cuda(listed.url, context)
        if told is not None and told.value != cuda:
            refusals.append(f"{listed.filename} of {where} is built {_describe(told.value)}.")
            continue
        path = pip_index.download(requirement, environment, folder, "the build", index)
        actual = read_cuda(path)
        if actual == cuda:
            return _required(path)
        refusals.append(f"{os.path.basename(path)} of {where} is built {_describe(actual)}.")
    raise TorchExtensionError(
        f"The build needs torch {version} {_describe(cuda)} for {environment['python']['abi']} on {environment['platform']['machine']}, which"
        f" cannot be had. {' '.join(refusals)} Configure pip on the control node for an index that has it, set"
        f" torch_extension_place_urls of {_PLACE} to a mirror, or name a node with this torch in torch_extension_builder."
    )


def _offers(version: str, cuda: str | None, place_urls: t.Mapping[str, str]) -> list[tuple[str | None, Requirement]]:
    """The indexes to ask, and what for: pip's own, and that of the PyTorch project for this CUDA."""
    label = "cu" + "".join(cuda.split(".")[:2]) if cuda else "cpu"
    base = place_urls.get(_PLACE, PLACES[_PLACE].url).rstrip("/")
    return [
        (None, Requirement(f"{_TORCH}=={version}")),
        (f"{base}/whl/{label}", Requirement(f"{_TORCH}=={version}+{label}")),
    ]


def _find_cached(folder: str, version: str, cuda: str | None, environment: t.Mapping[str, t.Any]) -> Required | None:
    supported = compatibility_tags.supported_tags(environment)
    for filename in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if not filename.startswith(f"{_TORCH}-") or not filename.endswith(".whl"):
            continue
        _name, found, _build, tags = parse_wheel_filename(filename)
        if found.public == Version(version).public and not tags.isdisjoint(supported):
            path = os.path.join(folder, filename)
            if RecordedFile(path).measure() and read_cuda(path) == cuda:
                return _required(path)
    return None


def _required(path: str) -> Required:
    declaring = Declaring.read(path)
    return Required(_TORCH, declaring.filename, path, sha256_of(path), os.path.getsize(path), declaring.requires)


class _Told(t.NamedTuple):
    """What a wheel of torch says of its CUDA: None if it is built without."""

    value: str | None


def _ask_cuda(url: str | None, context: DownloadContext) -> _Told | None:
    """What a wheel of torch says of its CUDA, read where it is; None if that is only known when it is here."""
    parts = urlsplit(url or "")
    try:
        if parts.scheme == "file":
            return _Told(read_cuda(unquote(parts.path)))
        if parts.scheme in ("http", "https") and "@" not in parts.netloc:
            with RemoteFile(str(url), context.ca_path) as file:
                return _Told(read_cuda(os.path.basename(parts.path), file))
    except TorchExtensionError:
        pass  # such as a server that gives no part of a file
    return None


def read_cuda(path: str, file: t.Any = None) -> str | None:
    """The version of CUDA that a wheel of torch is built for; None if it is built without.

    :param file: a binary file to read instead of the one at that path, which then stands for it in messages
    :raises TorchExtensionError: if it does not say
    """
    name = os.path.basename(path)
    try:
        with archives.open_zip(path, archives.WHEEL, file) as archive:
            constants = parse_constants(archive.open_file(_VERSION_FILE).read_all(_MAX_VERSION_FILE))
    except (archives.ArchiveError, SyntaxError, ValueError) as exc:
        raise TorchExtensionError(
            f"{name} does not tell its CUDA: its {_VERSION_FILE} cannot be read ({exc})."
        ) from exc
    cuda = constants.get("cuda")
    if cuda is not None and not re.fullmatch(r"\d+\.\d+(\.\d+)?", cuda):
        raise TorchExtensionError(f"{name} does not tell its CUDA: {_VERSION_FILE} in it has {cuda[:50]!r}.")
    return cuda


def _describe(cuda: str | None) -> str:
    return f"for CUDA {cuda}" if cuda else "without CUDA"
