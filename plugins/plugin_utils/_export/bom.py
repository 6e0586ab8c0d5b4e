# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The bill of materials of a lock, in CycloneDX's JSON."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import typing as t
import uuid

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.libraries import require_library
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.bundle_reading import name_files
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_file import Lock
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock.lock_validation import BUILT

try:
    from cyclonedx.model import (
        ExternalReference,
        ExternalReferenceType,
        HashAlgorithm,
        HashType,
        Property,
        XsUri,
    )
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL
except ImportError as exc:
    CYCLONEDX_IMPORT_ERROR: ImportError | None = exc
else:
    CYCLONEDX_IMPORT_ERROR = None

_NAMESPACE = uuid.UUID("4f0ff4ad-5c7a-5a43-9a0a-7d8ed1c5a6b0")  # of the serial numbers; made up once
_EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"
_PROPERTIES = "airgap.torch_extensions:built"  # in front of the names of properties


def build_bom(lock: Lock, lock_text: str) -> str:
    """What a bundle of a lock consists of: a component for each distinct file.

    It is the same for the same lock: its serial number follows from the lock, and its time is that of SOURCE_DATE_EPOCH,
    or none.

    :param lock_text: the text that the lock was read from
    :raises TorchExtensionError: if the library is missing, or SOURCE_DATE_EPOCH is no number
    """
    require_library("cyclonedx-python-lib", CYCLONEDX_IMPORT_ERROR)
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, hashlib.sha256(lock_text.encode()).hexdigest()))
    time = _source_date()
    if time:
        bom.metadata.timestamp = time
    names = name_files(lock)
    components = {names[_key_of(item)]: _component(item, names[_key_of(item)]) for item in lock.files()}
    bom.components.update(components.values())
    for name, required in _required_files(lock, names).items():
        bom.register_dependency(components[name], [components[each] for each in sorted(required)])
    data = json.loads(JsonV1Dot6(bom).output_as_string())
    if not time:
        del data["metadata"]  # the library sets the time of day, and there is nothing else in it
    return json.dumps(data, indent=2, sort_keys=True) + "\n"


def _key_of(item: t.Mapping[str, t.Any]) -> tuple[str, str]:
    return item["filename"], item["sha256"]


def _component(item: t.Mapping[str, t.Any], name_in_bundle: str) -> Component:
    name, digest = canonical(item["name"]), HashType(alg=HashAlgorithm.SHA_256, content=item["sha256"])
    # several files may be of one version, and even of one name, for several kinds of nodes
    qualifiers = {"file_name": item["filename"]}
    if name_in_bundle != item["filename"]:
        qualifiers["checksum"] = f"sha256:{item['sha256']}"
    references = []
    if item.get("url"):
        references.append(
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(item["url"]), hashes=[digest])
        )
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=item["version"],
        bom_ref=name_in_bundle,
        hashes=[digest],
        purl=PackageURL("pypi", None, name, item["version"], qualifiers),
        external_references=references,
        properties=_provenance(item.get(BUILT) or {}),
    )


def _provenance(built: t.Mapping[str, t.Any]) -> list[Property]:
    """How a wheel was built, by names of our own (CycloneDX, "Properties")."""
    told = {
        **{key: value for key, value in built.items() if isinstance(value, str)},
        **{f"compiler:{name}": version for name, version in built.get("compilers", {}).items()},
    }
    if built.get("architectures"):
        told["architectures"] = " ".join(built["architectures"])
    return [Property(name=f"{_PROPERTIES}:{key}", value=value) for key, value in sorted(told.items())]


def _required_files(lock: Lock, names: t.Mapping[tuple[str, str], str]) -> dict[str, set[str]]:
    """What each file requires in any environment, all by their names in the bundle."""
    required: dict[str, set[str]] = {name: set() for name in names.values()}
    for entry in lock.environments:
        for requirement in entry["requirements"]:
            for item in [*entry["wheels"], *entry["requirements"]]:
                if canonical(item["name"]) in requirement["required_by"]:
                    required[names[_key_of(item)]].add(names[_key_of(requirement)])
    return required


def _source_date() -> datetime.datetime | None:
    seconds = os.environ.get(_EPOCH_VARIABLE)
    if not seconds:
        return None
    try:
        return datetime.datetime.fromtimestamp(int(seconds), tz=datetime.timezone.utc)
    except (ValueError, OverflowError, OSError) as exc:
        raise TorchExtensionError(
            f"{_EPOCH_VARIABLE} in the environment of ansible-playbook is {seconds!r}, wanted are seconds since 1970, or unset it."
        ) from exc
