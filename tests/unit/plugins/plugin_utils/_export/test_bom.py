# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from locks import BUILT, EINOPS, WHEEL, missing_requirement, planned_wheel
from wheels import sha256

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export import bom
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file


@pytest.fixture
def lock_text(environment):
    plan = {
        "environment": environment,
        "wheels": [planned_wheel(WHEEL, "flash-attn"), planned_wheel(WHEEL, "flash-attn==2.8.3")],
        "requirements": [missing_requirement(EINOPS, "flash-attn", "mamba-ssm")],
    }
    other = {**plan, "environment": {**environment, "variables": {"A": "1"}}}
    return format_lock(build_lock({"a": plan, "b": other}))


def bom_of(lock_text):
    return bom.build_bom(lock_file.parse_lock(lock_text, "a.yml"), lock_text)


@pytest.mark.parametrize("seconds", ["", "0", "1700000000"])
def test_the_bill_of_materials_is_valid_cyclonedx(seconds, lock_text, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", seconds)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom_of(lock_text)) is None


def test_each_file_is_one_component_with_its_hash_and_origin_and_what_it_requires(lock_text):
    data = json.loads(bom_of(lock_text))
    lock = lock_file.parse_lock(lock_text, "a.yml")
    wheel, einops = lock.environments[0]["wheels"][0], lock.environments[0]["requirements"][0]
    assert [component["bom-ref"] for component in data["components"]] == [EINOPS, WHEEL]
    for component, item in zip(data["components"], (einops, wheel), strict=True):
        assert (component["type"], component["name"], component["version"]) == (
            "library",
            item["name"],
            item["version"],
        )
        assert component["hashes"] == [{"alg": "SHA-256", "content": item["sha256"]}]
        assert component["purl"].startswith(f"pkg:pypi/{item['name']}@{item['version']}")
    [origin] = data["components"][1]["externalReferences"]
    assert (origin["type"], origin["url"]) == ("distribution", wheel["url"])
    assert {"ref": WHEEL, "dependsOn": [EINOPS]} in data["dependencies"]


def test_of_a_wheel_that_was_built_here_the_bill_says_how(environment):
    wheels = [planned_wheel(WHEEL, "flash-attn", built=BUILT)]
    text = format_lock(build_lock({"a": {"environment": environment, "wheels": wheels, "requirements": []}}))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom_of(text)) is None
    [component] = json.loads(bom_of(text))["components"]
    assert {each["name"].rpartition("built:")[2]: each["value"] for each in component["properties"]} == {
        "architectures": "8.0 9.0",
        "builder": "b01",
        "compiler:cxx": "12.2.0",
        "compiler:nvcc": "12.1.105",
        "sdist": "flash_attn-2.8.3.tar.gz",
        "sdist_sha256": "1" * 64,
        "torch": "2.2.0+cu121",
    }


def test_two_files_of_one_name_are_two_components(maker):
    wheels = maker.lock_namesakes()
    text = bom_of(maker.lock_text)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    data = json.loads(text)
    names = [f"{sha256(wheel)[:16]}/{wheel.name}" for wheel in wheels]
    components = {component["bom-ref"]: component for component in data["components"]}
    assert components.keys() == {maker.einops.name, *names}
    for name, wheel in zip(names, wheels, strict=True):
        assert components[name]["hashes"] == [{"alg": "SHA-256", "content": sha256(wheel)}]
        assert {"ref": name, "dependsOn": [maker.einops.name]} in data["dependencies"]
        assert components[name]["externalReferences"][0]["url"].endswith(f"/{wheel.parent.name}/{wheel.name}")
    assert len({component["purl"] for component in data["components"]}) == 3


def test_the_same_lock_has_the_same_bill_and_another_lock_another_serial_number(lock_text):
    assert bom_of(lock_text) == bom_of(lock_text)
    assert json.loads(bom_of(lock_text))["serialNumber"] != json.loads(bom_of(lock_text + "# more\n"))["serialNumber"]


def test_the_time_is_that_of_source_date_epoch_or_none(lock_text, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert "timestamp" not in bom_of(lock_text)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert json.loads(bom_of(lock_text))["metadata"]["timestamp"].startswith("1970-01-01T00:00:00")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(TorchExtensionError, match=r"SOURCE_DATE_EPOCH .* is 'today', wanted are seconds"):
        bom_of(lock_text)


def test_without_the_library_the_requirements_are_named(lock_text, monkeypatch):
    monkeypatch.setattr(bom, "CYCLONEDX_IMPORT_ERROR", ImportError("No module named 'cyclonedx'"))
    with pytest.raises(TorchExtensionError, match=r"lacks cyclonedx-python-lib .*requirements\.txt"):
        bom_of(lock_text)
