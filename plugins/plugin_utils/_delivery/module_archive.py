# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Have Ansible package a module before the nodes need it."""

from __future__ import annotations

import contextlib
import sys
import typing as t

from ansible.plugins.action import ActionBase


def build_module_archive(action: ActionBase, module: str, task_vars: t.Mapping[str, t.Any]) -> None:
    """Have Ansible build the archive of a module of this collection that all nodes of the run are sent later.

    It is built once in a run (ansible-core 2.16 to 2.21: AnsiballZ, kept in the run's temporary folder), by the first process
    that wants it. The others wait 0.2 s for that, and that one keeps the 12 MB that it took for as long as it lives. If this
    fails, Ansible builds it later, as it does without us.

    :param action: one whose process soon ends
    """
    if action._task.delegate_to:
        return
    # with an interpreter given no node is asked for one; it is no part of the archive
    variables = {**task_vars, "ansible_python_interpreter": sys.executable}
    with contextlib.suppress(Exception):
        action._configure_module(f"airgap.torch_extensions.{module}", {}, variables)
