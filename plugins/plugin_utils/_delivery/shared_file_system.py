# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Bring files to a file system that nodes share, once, by way of the first node that wants them.

Which nodes share one is found out: the first to come leaves a random word there, and whoever reads the same word sees the same
file system, whatever its path. Of those that do, one at a time looks and writes.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery import streaming

#: of the folder that is shared, whoever may write there: what belongs to one user
FOLDER = "airgap.torch_extensions"

_KNOBS = "torch_extension_shared_dir, or torch_extension_delivery to another way, such as copy"
_ELSE = f"Nothing was changed. Set {_KNOBS}."
_WORD = re.compile("[0-9a-f-]{36}")


def look(files: t.Sequence[streaming.File], shared: str, execute: streaming.Execute) -> streaming.Staging | None:
    """Find out what a node sees of a file system that it shares with others.

    :param shared: a folder there, as the operator names it
    :returns: with ``told["word"]``, the same for all nodes that see this file system; None if the command did not get there
    :raises TorchExtensionError: if the node does not see it, or it cannot be used
    """
    place = streaming.expandable(shared)
    enter = (
        f"cd {place} || exit 1; "
        # what is mounted nowhere would be a folder of the node's own disk, which one finds when that is full
        'case "$(df -Pk . | tail -n 1)" in *" /") echo it is on the disk of the node itself: nothing is mounted there >&2; exit 1;;'
        f" esac; [ -d {FOLDER} ] || mkdir {FOLDER} || [ -d {FOLDER} ] || exit 1; cd {FOLDER} || exit 1;"
        f" {streaming.ITS_USERS_ALONE}"
        " [ -L .id ] || [ ! -e .id ] || { echo its .id is no link and none of ours >&2; exit 1; };"
        # a link is made with its word in it, or not at all, also by several nodes at once
        ' [ -L .id ] || ln -s "$(cat /proc/sys/kernel/random/uuid)" .id 2>/dev/null || [ -L .id ] ||'
        " { echo it cannot be written to >&2; exit 1; };"
        # NFS remembers for a while which names a folder lacks, unless it is changed from here
        f' [ ! -w . ] || {{ mkdir ".$$.new" && rmdir ".$$.new"; }} 2>/dev/null; echo "{streaming.TELL}word:$(readlink .id)";'
    )
    try:
        staging = streaming.look(files, enter, execute)
    except streaming.NoFolderError as exc:
        raise TorchExtensionError(f"The shared folder {shared} cannot be used on this node: {exc}. {_ELSE}") from exc
    if staging is None:
        return None
    if not _WORD.fullmatch(staging.told["word"]):
        raise TorchExtensionError(
            f"{staging.folder}/.id on the node is a link to {staging.told['word']!r}, and not one of ours. {_ELSE}"
        )
    return staging._replace(knob=_KNOBS, is_shared=True)
