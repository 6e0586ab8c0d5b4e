# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What the source ``build`` means for a requirement: a wheel that was built before, or the sdist to build one from."""

from __future__ import annotations

import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256
from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import package_facts
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import UnavailableError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.architectures import (
    describe_architectures,
    gpu_architectures,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.built import (
    BuildKind,
    BuiltWheel,
    find_built,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.requirement import WheelRequirement
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.sdists import Sdist, find_sdists
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.source import BUILD, Source

Wheel = dict[str, t.Any]


class _Wanted(t.NamedTuple):
    """What a node wants to have built."""

    name: str
    kind: BuildKind
    libc: str | None  # the node's version of glibc
    architectures: tuple[str, ...]

    def find_built(self, access: SourceAccess, sdist_sha256: str | None) -> list[BuiltWheel]:
        """The wheels in the store that serve the node, the best first."""
        return find_built(access.cache, self.name, self.kind, self.libc, sdist_sha256, self.architectures)

    def describe(self, sdist: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """The key ``build`` of a planned wheel."""
        return {
            "sdist": {key: sdist.get(key) for key in ("filename", "url", "sha256", "size", "source")},
            "kind": self.kind._asdict(),
            "libc": self.libc,
            "architectures": list(self.architectures),
        }

    def filename(self, version: str) -> str:
        """What the wheel will most likely be called."""
        distribution = package_facts(self.name).distribution
        abi = self.kind.python
        return f"{distribution}-{version}+{self.kind.label}-{abi.rstrip('td')}-{abi}-linux_{self.kind.machine}.whl"


def find_or_build(
    requirement: WheelRequirement,
    environment: t.Mapping[str, t.Any],
    sources: t.Sequence[Source],
    access: SourceAccess,
) -> list[Wheel]:
    """The wheels in the store that serve a node, the best first; or else what has to be built (``build``, without a URL).

    :param sources: in whose folders an sdist may be
    :returns: as the lookup ``wheel`` describes them, as far as this source knows
    :raises TorchExtensionError: if neither is to be had
    """
    kind = BuildKind.of(environment)
    if kind.cuda is None:
        raise TorchExtensionError(
            f"a wheel is built for torch with CUDA alone, and this torch is for {'ROCm' if kind.hip else 'the CPU'}."
        )
    libc = environment["platform"]["libc"]
    libc_version = libc["version"] if libc and libc["name"] == "glibc" else None
    architectures = access.build_architectures or gpu_architectures(environment)
    wanted = _Wanted(requirement.name, kind, libc_version, architectures)
    warnings: list[str] = []
    try:
        sdist = _choose_sdist(requirement, environment, sources, access, warnings)
    except UnavailableError as exc:
        kept = [built for built in wanted.find_built(access, None) if requirement.is_met_by(built.record.version)]
        if not kept:
            raise
        wheels = [_describe_built(built, wanted) for built in kept]
        warnings.append(f"{BUILD}: {exc}")
    else:
        found = [built for built in wanted.find_built(access, sdist.sha256) if built.record.version == sdist.version]
        wheels = [_describe_built(built, wanted) for built in found] or [_describe_build(sdist, wanted)]
    return [{**wheel, "warnings": warnings} for wheel in wheels]


def _choose_sdist(
    requirement: WheelRequirement,
    environment: t.Mapping[str, t.Any],
    sources: t.Sequence[Source],
    access: SourceAccess,
    warnings: list[str],
) -> Sdist:
    """The newest one that meets a requirement.

    :raises UnavailableError: if nobody could be asked
    :raises TorchExtensionError: if there is none
    """
    python = environment["python"]["version"]
    sdists = find_sdists(requirement.name, requirement.specifier, python, sources, access, warnings)
    if not sdists:
        raise TorchExtensionError(
            f"there is no sdist of {requirement} for Python {python}, neither in a directory: of torch_extension_sources nor on the index"
            " of the control node's pip."
        )
    parts = urlsplit(sdists[0].url)
    if parts.scheme != "file":
        return sdists[0]
    # the operator may have changed it since somebody wrote its hash down beside it
    return sdists[0]._replace(sha256=check_sha256(unquote(parts.path), sdists[0].sha256))


def _describe_built(built: BuiltWheel, wanted: _Wanted) -> Wheel:
    record = built.record
    for_gpus = f" for {describe_architectures(record.architectures)}" if record.architectures else ""
    sdist = {"filename": record.sdist, "sha256": record.sdist_sha256, "url": None}
    return {
        "version": record.version,
        "filename": record.filename,
        "url": built.url,
        "source": BUILD,
        "size": record.size,
        "sha256": record.sha256,
        "build": wanted.describe(sdist),
        "built": record.provenance(),
        "ground": f"it was built from {record.sdist} with torch {record.torch}{for_gpus}, on {record.builder}",
    }


def _describe_build(sdist: Sdist, wanted: _Wanted) -> Wheel:
    return {
        "version": sdist.version,
        "filename": wanted.filename(sdist.version),
        "url": None,
        "source": BUILD,
        "size": None,
        "sha256": None,
        "build": wanted.describe(sdist._asdict()),
        "ground": f"no other source has a wheel for this node, and it can be built from {sdist.filename} ({sdist.source})",
    }
