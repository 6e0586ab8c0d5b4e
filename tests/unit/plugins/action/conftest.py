# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import re
import sys

import pytest
from nodes import put_torch


@pytest.fixture
def on_node(ansible, monkeypatch):
    """Runs an action of this collection on this machine; the task's result."""
    monkeypatch.setenv("PATH", os.pathsep.join(["/usr/local/bin", "/usr/bin", "/bin"]))

    def on_node(action, *options, **arguments):
        interpreter = f"ansible_python_interpreter={sys.executable}"
        here = ("-c", "local", "-e", interpreter, *options)
        _status, output = ansible(f"airgap.torch_extensions.{action}", json.dumps(arguments), *here)
        assert "Traceback" not in output, output
        status, result = re.search(r"^node \| (\S+) => (.*)", output, re.MULTILINE | re.DOTALL).groups()
        return {**json.JSONDecoder().raw_decode(result)[0], "failed": status == "FAILED!", "output": output}

    return on_node


@pytest.fixture
def torch_libraries(venv):
    """The folder of libraries of the small torch that the environment gets."""
    return put_torch(venv)


@pytest.fixture
def shelf(tmp_path):
    """A folder of wheels on the control node."""
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"
