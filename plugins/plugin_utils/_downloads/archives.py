# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Download what wheels are built from: sdists, archives of git tags, and archives of NVIDIA's compiler."""

from __future__ import annotations

import re

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.downloader import FileKind
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.transfer import Wording

_NAME = re.compile(r"\w[\w.+!-]*\.(tar\.gz|tar\.xz|zip)", re.ASCII)


def check_archive_name(filename: str) -> None:
    """
    :raises TorchExtensionError: if it is no name of an archive, or holds a path
    """
    if not _NAME.fullmatch(filename):
        raise TorchExtensionError(f"{filename!r} is not the name of an archive (.tar.gz, .tar.xz or .zip).")


def _take_as_it_is(_path: str, _filename: str) -> None:
    """What is in an archive shows when it is read; its hash has been checked by then."""


#: of the index of the control node's pip
INDEX_SDISTS = FileKind(
    check_archive_name,
    _take_as_it_is,
    Wording(
        noun="sdist",
        told_by="as the index has it",
        hash_told_by="as the index or torch_extension_sha256 has it",
        mirror_setting="index-url of pip on the control node",
        without_hash="Give its hash in torch_extension_sha256, or set index-url of pip on the control node to an https: URL.",
    ),
)

#: archives of tags
TAG_ARCHIVES = FileKind(
    check_archive_name,
    _take_as_it_is,
    Wording(
        noun="archive of the tag",
        told_by="as torch_extension_sha256 has it",
        hash_told_by="as torch_extension_sha256 has it",
    ),
)

#: of NVIDIA's compiler, each with its hash in a manifest
CUDA_ARCHIVES = FileKind(
    check_archive_name,
    _take_as_it_is,
    Wording(
        noun="archive",
        told_by="as the manifest has it",
        hash_told_by="as the manifest has it",
        mirror_setting="torch_extension_build_cuda",
    ),
)
