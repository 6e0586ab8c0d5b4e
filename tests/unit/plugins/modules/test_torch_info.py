# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging
from ansible_collections.airgap.torch_extensions.plugins.modules import torch_info


def test_environments_are_told_in_their_order_and_nothing_changes(make_venv, run_module):
    venvs = [str(make_venv(name)) for name in "ba"]
    result = run_module(torch_info, python=venvs, distributions=["flash-attn"])
    assert [item["python"]["prefix"] for item in result["environments"]] == venvs
    assert result["environment"] == result["environments"][0]
    assert result["environment"]["distributions"] == {"flash-attn": None}
    assert result["changed"] is False


def test_what_is_broken_is_a_failure_that_says_so(make_venv, make_torch, run_module, tmp_path):
    venv = make_venv()
    (make_torch(next(venv.glob("lib/*/site-packages"))) / "version.py").unlink()
    result = run_module(torch_info, python=[str(venv)])
    assert result["failed"]
    assert "half removed" in result["msg"]


def test_it_tells_wheels_and_parts_of_wheels_that_were_brought(make_venv, run_module, tmp_path):
    venv = str(make_venv())
    assert "staged" not in run_module(torch_info, python=[venv])
    assert run_module(torch_info, python=[venv], stage_dir=str(tmp_path / "none"))["staged"] == []
    stage = tmp_path / "stage"
    stage.mkdir()
    part = staging.part_name("a-1-py3-none-any.whl", "0" * 64)
    for name in (part, "a-1-py3-none-any.whl", "notes.part", ".hidden"):
        (stage / name).touch()
    assert run_module(torch_info, python=[venv], stage_dir=str(stage))["staged"] == [part, "a-1-py3-none-any.whl"]


def test_no_environment_at_all_is_a_failure(run_module):
    assert "empty list" in run_module(torch_info, python=[])["msg"]


def test_what_cannot_be_told_is_a_warning(make_venv, make_torch, run_module, monkeypatch):
    warnings = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, warning: warnings.append(warning))
    venv = make_venv()
    make_torch(next(venv.glob("lib/*/site-packages")), library=b"neither")
    result = run_module(torch_info, python=[str(venv)])
    assert result["environment"]["torch"]["cxx11_abi"] is None
    assert ["C++ ABI" in warning for warning in warnings].count(True) == 1


def test_the_place_of_an_sdist_is_asked_of_each_environment_and_only_if_wanted(make_venv, run_module):
    venvs = [str(make_venv(name)) for name in "ab"]
    result = run_module(torch_info, python=venvs, sdists=["Flash_Attn==2.8.3"])
    assert [list(item["sdists"]) for item in result["environments"]] == [["flash-attn"]] * 2
    assert "a/bin/python has no pip" in result["environment"]["sdists"]["flash-attn"]["error"]
    assert run_module(torch_info, python=venvs)["environment"]["sdists"] == {}
    assert "does not pin one version" in run_module(torch_info, python=venvs, sdists=["flash-attn"])["msg"]
