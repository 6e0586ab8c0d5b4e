# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""With the ansible-core at hand, as what it returns for such a module differs. Real nodes: scenarios refusals and users."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("action", ["torch_info", "torch_verify", "wheel_plan", "wheel_proof"])
def test_every_action_names_the_interpreter_and_the_environments_own(action, on_node, venv, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no libpython >&2\nexit 127\n")
    broken.chmod(0o755)
    wanted = {"wheel_plan": {"packages": ["flash-attn"]}, "wheel_proof": {"facts": []}}.get(action, {})
    failed = on_node(action, "-e", f"ansible_python_interpreter={broken}", python=str(venv), **wanted)
    assert (failed["failed"], "module_stderr" in failed) == (True, False), failed
    assert (
        f"{broken}, which ansible_python_interpreter names, ended with exit status 127 and said no libpython."
        in failed["msg"]
    )
    assert f"Set ansible_python_interpreter={venv}/bin/python for this node" in failed["msg"]
