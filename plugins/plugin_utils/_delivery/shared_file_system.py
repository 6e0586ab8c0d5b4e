# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Bring files to a file system that nodes share, once, by way of the first node that wants them.

Nodes that share one are recognised by an ID: the first to come leaves a random one there, and all nodes that read it see the
same file system, whatever its path. Of those, one at a time looks and writes.
"""

from __future__ import annotations

import re
import shlex
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import shorten
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust_in_shell import CHECK_FOLDER
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import streaming

#: of the folder that is shared, whoever may write there: what belongs to one user
FOLDER_NAME = "airgap.torch_extensions"

_KNOBS = "torch_extension_shared_dir, or torch_extension_delivery to another way, such as copy"
_ADVICE = f"Nothing was changed. Set {_KNOBS}."
_FILE_SYSTEM_ID = re.compile("[0-9a-f-]{36}")


def place_files(files: t.Iterable[streaming.File]) -> list[streaming.File]:
    """Give each file a folder of its own there, named after its hash.

    Nodes do not know of each other, and those of two kinds may want different files of one name. So no file ever takes the
    place of another one, which nodes may be reading.
    """
    return [file._replace(subfolder=shorten(file.sha256)) for file in files]


def inspect_shared_folder(
    files: t.Sequence[streaming.File], shared: str, execute: streaming.Execute
) -> streaming.Staging | None:
    """Look at what a node has of some files on a file system that it shares with others.

    :param files: as :func:`place_files` returns them
    :param shared: a folder there, as the operator names it
    :returns: with ``facts["id"]``, the same for all nodes that see this file system; None if the command did not get there
    :raises TorchExtensionError: if the node does not see it, or it cannot be used
    """
    path = streaming.quote_path(shared)
    folders = shlex.join([".", *sorted({file.subfolder for file in files if file.subfolder})])
    enter = (
        f"cd {path} || exit 1; "
        # what is mounted nowhere would be a folder of the node's own disk, which one finds when that is full
        'case "$(df -Pk . | tail -n 1)" in *" /") echo it is on the disk of the node itself: nothing is mounted there >&2; exit 1;;'
        f" esac; [ -d {FOLDER_NAME} ] || mkdir {FOLDER_NAME} || [ -d {FOLDER_NAME} ] || exit 1; cd {FOLDER_NAME} || exit 1;"
        f" {CHECK_FOLDER}"
        " [ -L .id ] || [ ! -e .id ] || { echo its .id is no link and none of ours >&2; exit 1; };"
        # a link is made with the ID in it, or not at all, also by several nodes at once
        ' [ -L .id ] || ln -s "$(cat /proc/sys/kernel/random/uuid)" .id 2>/dev/null || [ -L .id ] ||'
        " { echo it cannot be written to >&2; exit 1; };"
        # NFS remembers for a while which names a folder lacks, unless it is changed from here
        f' for folder in {folders}; do [ ! -w "$folder" ] || {{ mkdir "$folder/.$$.new" && rmdir "$folder/.$$.new"; }} 2>/dev/null;'
        f' done; echo "{streaming.MARKER}id:$(readlink .id)";'
    )
    try:
        staging = streaming.inspect_folder(files, enter, execute)
    except streaming.NoFolderError as exc:
        raise TorchExtensionError(f"The shared folder {shared} cannot be used on this node: {exc}. {_ADVICE}") from exc
    if staging is None:
        return None
    if not _FILE_SYSTEM_ID.fullmatch(staging.facts["id"]):
        raise TorchExtensionError(
            f"{staging.folder}/.id on the node is a link to {staging.facts['id']!r}, and not one of ours. {_ADVICE}"
        )
    return staging._replace(knob=_KNOBS, is_shared=True)
