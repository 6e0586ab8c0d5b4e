# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import py_compile
import sys

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.commands import make_run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import JobFolder
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.scratch_venv import bytecode_variables
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.interpreter import (
    PathEntry,
    query_interpreter,
)


@pytest.mark.parametrize(
    ("is_compiled", "variable"), [(True, "PYTHONDONTWRITEBYTECODE"), (False, "PYTHONPYCACHEPREFIX")]
)
def test_the_bytecode_of_torch_is_used_where_it_is_and_never_written(tmp_path, is_compiled, variable):
    torch = tmp_path / "site" / "torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").touch()
    if is_compiled:
        py_compile.compile(str(torch / "__init__.py"))
    interpreter = query_interpreter(sys.executable, make_run(os.environ))
    interpreter = interpreter._replace(path=(PathEntry(str(torch.parent), "environment"),))
    folder = JobFolder(str(tmp_path), "job")
    assert list(bytecode_variables(folder, interpreter)) == [variable]
