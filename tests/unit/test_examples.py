# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What docs/ci.md shows is what docs/examples/ci has, what the scenario site_ci runs, and what the project is tested with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs/examples/ci"
FILES = sorted(str(path.relative_to(EXAMPLE)) for path in EXAMPLE.rglob("*") if path.is_file())
PAGE = (ROOT / "docs/ci.md").read_text()
SHOWN = re.findall(r"\(examples/ci/([^)]+)\)[^\n]*\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
CI_FILES = [".github/workflows/torch_extensions.yml", ".gitlab-ci.yml", "Jenkinsfile"]


def scenario_commands() -> set[str]:
    """What molecule/site_ci runs of the page, without the options that only the scenario has."""
    scenario = ROOT / "molecule/site_ci"
    texts = [(scenario / f"{name}.yml").read_text() for name in ("prepare", "converge")]
    lock = yaml.safe_load((scenario / "vars/site.yml").read_text())["lock"]
    found = re.findall(r'^ +command: "?(.+?)"?$', "\n".join(texts), re.MULTILINE)
    return {command.replace("{{ lock }}", lock) for command in found}


def pins(path: Path) -> set[str]:
    lines = (re.sub(r"\s#.*", "", line) for line in path.read_text().splitlines())
    return {str(Requirement(line)) for line in lines if re.match(r"[a-z]", line)}


@pytest.mark.parametrize(("path", "text"), SHOWN, ids=[path for path, _text in SHOWN])
def test_page_shows_the_file_as_it_is(path, text):
    assert text == (EXAMPLE / path).read_text()


def test_page_shows_or_names_each_file():
    assert len(SHOWN) >= 10
    assert [path for path in FILES if f"(examples/ci/{path})" not in PAGE] == [".gitignore"]


def test_example_has_the_versions_that_are_tested():
    tested = {pin for path in ROOT.glob("requirements-dev/*.txt") for pin in pins(path)}
    assert pins(EXAMPLE / "requirements.txt") - tested == set()
    (collection,) = yaml.safe_load((EXAMPLE / "requirements.yml").read_text())["collections"]
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    assert collection["version"] == galaxy["version"]
    assert collection["name"] == galaxy["repository"] + ".git"


def test_page_has_the_commands_that_the_scenario_runs():
    commands = scenario_commands() - {"molecule syntax --scenario-name containers"}
    assert len(commands) == 5
    shown = PAGE.replace("inventory/gpu_hosts", "inventory/ci.yml")  # the survey is of the fleet
    assert [command for command in commands if command not in shown] == []


@pytest.mark.parametrize("path", CI_FILES)
def test_each_ci_runs_the_same(path):
    text = (EXAMPLE / path).read_text()
    lock = yaml.safe_load((ROOT / "molecule/site_ci/vars/site.yml").read_text())["lock"]
    for command in (
        "./setup.sh",
        lock,
        "git diff --exit-code wheels.lock.yml",
        "molecule test",
        "--scenario-name containers",
    ):
        assert command in text


def test_pre_commit_runs_linters_of_the_project():
    lint = (ROOT / "tests/tools/lint.sh").read_text()
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert len(entries) == 5
    assert [
        entry for entry in entries if not re.search(rf"^ *lint {re.escape(entry)} [^-]+$", lint, re.MULTILINE)
    ] == []
