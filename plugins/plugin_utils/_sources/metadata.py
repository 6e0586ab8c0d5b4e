# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Read the METADATA of wheels that are not here: from the file that an index has beside them, or from the end of the wheel."""

from __future__ import annotations

import hashlib
import typing as t
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import (
    judging,
    labels,
    metadata,
    wheel_file,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.unforeseen import explain_unforeseen
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_cache import HttpCache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import Answer

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import SourceAccess


class MetadataReader:
    """Reads METADATA, and holds wheels against it."""

    def __init__(self, access: SourceAccess, environment: t.Mapping[str, t.Any]) -> None:
        self._access = access
        self._torch = environment["torch"]["version"]
        self._markers = metadata.marker_environment(environment)
        self._http_cache: HttpCache | None = None

    def hold_against(self, candidate: judging.Candidate) -> judging.Candidate:
        """Hold a wheel against what its METADATA says of torch.

        Where METADATA cannot be had, the wheel stays as it is, with why: it is read again when the wheel is here.
        """
        failures = []
        for url in (candidate.asset.url, *candidate.asset.other_urls):
            try:
                with explain_unforeseen(f"The METADATA of {candidate.asset.filename}"):
                    return self._judge(candidate, self._read(candidate.asset._replace(url=url)))
            except TorchExtensionError as exc:
                failures.append(f"{str(exc).rstrip('.')}.")
        return candidate._replace(unread=" ".join(failures))

    def _judge(self, candidate: judging.Candidate, found: wheel_file.WheelMetadata) -> judging.Candidate:
        try:
            wheel_file.check_same_wheel(found, candidate.asset.filename)
        except TorchExtensionError as exc:
            return _refuse(candidate, str(exc))
        requirement = metadata.torch_requirement(found.requires, self._markers)
        if requirement is None:
            return candidate
        if metadata.contradicts(requirement, candidate.label):
            told = labels.describe_built_for(candidate.label.built_for)
            return _refuse(candidate, f"its name says {told}, and its METADATA requires {requirement}")
        if not requirement.allows(self._torch):
            return _refuse(candidate, f"its METADATA requires {requirement}, this node has torch {self._torch}")
        candidate = candidate._replace(required_torch=str(requirement))
        if requirement.pins and not candidate.tells_torch:
            version = ".".join(str(part) for part in judging.parse_torch_version(self._torch).release[:2])
            label = candidate.label._replace(built_for=labels.Torch(version))
            return candidate._replace(label=label)
        return candidate

    def _read(self, asset: judging.Asset) -> wheel_file.WheelMetadata:
        if asset.url.startswith("file:"):
            return wheel_file.read_metadata(url2pathname(urlsplit(asset.url).path))
        if asset.has_metadata:
            return self._read_beside(asset)
        # requests is slow to import, and most wheels tell their torch
        from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.remote_zip import RemoteFile

        with RemoteFile(asset.url, self._access.ca_path) as file:
            return wheel_file.read_metadata(asset.filename, file)

    def _read_beside(self, asset: judging.Asset) -> wheel_file.WheelMetadata:
        access = self._access
        if self._http_cache is None:
            self._http_cache = HttpCache(access.cache, access.ca_path, access.max_age)

        def parse(answer: Answer) -> wheel_file.WheelMetadata:
            if asset.metadata_sha256 and hashlib.sha256(answer.body).hexdigest() != asset.metadata_sha256:
                raise ValueError("its hash is not the one that the index tells")
            try:
                return wheel_file.parse_metadata(answer.body, asset.filename)
            except TorchExtensionError as exc:
                raise ValueError(str(exc)) from exc

        parts = urlsplit(asset.url)
        url = parts._replace(path=f"{parts.path}.metadata").geturl()
        return self._http_cache.get(url, parse, f"The METADATA of {asset.filename}")


def _refuse(candidate: judging.Candidate, sentence: str) -> judging.Candidate:
    return candidate._replace(mismatches=(judging.Mismatch("METADATA", "", "", sentence),))
