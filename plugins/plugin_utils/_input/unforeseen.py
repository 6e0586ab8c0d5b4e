# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""The last net: whatever a library raises over a file or a node becomes an error of that file or node, and of nobody else."""

from __future__ import annotations

import contextlib
import traceback
import typing as t

from ansible.utils.display import Display

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError

_LONGEST = 300  # of what an exception says
# of Ansible, and of this collection
_OWN = ("ansible.", "ansible_collections.")


class UnforeseenError(TorchExtensionError):
    """A library has raised something that nobody has foreseen."""


@contextlib.contextmanager
def explain_unforeseen(subject: str) -> t.Iterator[None]:
    """Make an error of ours of what a library raises. The errors of Ansible and of this collection pass.

    :param subject: what is dealt with: a file, a node
    :raises UnforeseenError: with what it is about; the traceback is for -vvv alone
    """
    try:
        yield
    except Exception as exc:
        if type(exc).__module__.startswith(_OWN):
            raise
        Display().vvv(traceback.format_exc())
        text = " ".join(str(exc).split())[:_LONGEST].rstrip(".")
        raise UnforeseenError(
            f"{subject} could not be dealt with, for a reason that this collection does not know ({type(exc).__name__}"
            f"{f': {text}' if text else ''}). Run again with -vvv to see where it comes from, and report that."
        ) from exc
