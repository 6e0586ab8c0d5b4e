# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests that did not run must not look like tests that passed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests/tools"
MAKEFILE = """
.PHONY: good bad skipped late
good late:
\t@echo all is well
bad:
\t@seq 1000; echo this is wrong; exit 3
skipped:
\t@echo SKIPPED: there is no Python
"""


@pytest.fixture
def steps(tmp_path):
    """Runs steps of a Makefile; exit status, output, and the lines of the table in the end."""

    def steps(*arguments, makefile=MAKEFILE):
        (tmp_path / "Makefile").write_text(makefile)
        command = [sys.executable, TOOLS / "steps.py", *arguments]
        done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)
        rows = done.stdout.partition("\nstep ")[2].splitlines()[1:-2]
        return done.returncode, done.stdout, {step: result for step, result, *_rest in map(str.split, rows)}

    return steps


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def dry_run(target: str) -> str:
    """What make would do."""
    command = ["make", "--no-print-directory", "--dry-run", target]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env=environ).stdout


def steps_of(target: str) -> set[str]:
    """The steps that a target has steps.py run."""
    (arguments,) = re.findall(r"steps[.]py (.*)", dry_run(target))
    return set(arguments.split()) - {"--after"}


def test_steps_that_pass_are_announced_told_and_listed(steps):
    status, output, listed = steps("good", "--after", "late", "skipped")
    assert status == 0
    assert listed == {"good": "passed", "late": "passed", "skipped": "skipped"}
    assert "late, good, skipped" in output.partition("begins")[0]
    assert output.index("passed   late") < output.index("begins   skipped")


def test_one_step_that_fails_is_a_failure_and_its_log_is_shown(steps):
    status, output, listed = steps("bad", "good", "--jobs", "1")
    assert status == 1
    assert listed == {"bad": "FAILED", "good": "passed"}
    assert "\nthis is wrong\n" in output
    assert "\n500\n" not in output
    assert "the end of .cache/steps/bad.log" in output


def test_what_waits_for_a_step_that_fails_is_not_run(steps):
    status, _output, listed = steps("good", "--after", "bad", "late")
    assert status == 1
    assert listed == {"good": "passed", "bad": "FAILED", "late": "not"}


@pytest.mark.parametrize("arguments", [[], ["skipped"]])
def test_a_run_in_which_nothing_passes_has_failed(steps, arguments):
    assert steps(*arguments)[0] == 1


def test_the_slowest_of_the_last_run_begin_first(steps):
    makefile = "quick:\n\t@true\nslow:\n\t@sleep 0.3\n"
    steps("quick", "slow", makefile=makefile)
    output = steps("quick", "slow", makefile=makefile)[1]
    assert output.index("begins   slow") < output.index("begins   quick")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nothing_running(tmp_path, number):
    # a shell has what it starts in the background ignore Ctrl-C
    (tmp_path / "Makefile").write_text("step:\n\t@sleep 1000 & echo $$! >pid; sleep 1000\n")
    run = subprocess.Popen(
        [sys.executable, TOOLS / "steps.py", "step"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.01)
    run.send_signal(number)
    output = run.communicate(timeout=60)[0]
    assert run.returncode == 130
    assert "\nstep  stopped" in output
    assert not Path("/proc", pid.read_text().strip()).exists()


def test_make_test_has_each_step_that_another_target_has():
    steps = steps_of("test")
    scenarios = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
    assert scenarios
    assert {f"molecule-{scenario}" for scenario in scenarios} <= steps
    for target in ("sanity", "molecule", "newest"):
        assert steps_of(target) <= steps
    assert {"sanity-core-2.16", "sanity-core-newest"} <= steps
    assert {f"newest-{part}" for part in ("plugins", "default", "lock", "bundle", "users")} <= steps
    assert {"unit", "conformance", "lint", "build"} <= steps


def test_make_cores_has_each_ansible_core_and_the_same_of_each():
    by_core: dict[str, set[str]] = {}
    for core, _dash, part in (step.partition("-") for step in steps_of("cores") - {"layers"}):
        by_core.setdefault(core, set()).add(part)
    assert by_core.keys() == {path.stem.removeprefix("core-") for path in ROOT.glob("requirements-dev/core-*.txt")}
    assert len(by_core) > 5
    assert set(map(frozenset, by_core.values())) == {frozenset({"plugins", "default", "lock", "bundle", "users"})}


def test_continuous_integration_runs_the_command_of_the_readme():
    assert "\nmake test " in (ROOT / "README.md").read_text()
    assert "exec make --keep-going test <" in (ROOT / ".ci/run").read_text()


def test_what_was_committed_changed_and_added_differs_from_main(tmp_path):
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    for name in ("same", "committed", "changed", "deleted"):
        (tmp_path / name).touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "x")
    git(tmp_path, "switch", "--quiet", "--create", "branch")
    (tmp_path / "committed").write_text("x")
    git(tmp_path, "commit", "--quiet", "--all", "--message", "x")
    (tmp_path / "changed").write_text("x")
    (tmp_path / "deleted").unlink()
    (tmp_path / "new").touch()
    told = subprocess.run([TOOLS / "changed.sh"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert sorted(told.split()) == ["changed", "committed", "new"]


def test_without_a_main_nobody_knows_what_changed(tmp_path):
    git(tmp_path, "init", "--quiet", "--initial-branch", "other")
    done = subprocess.run([TOOLS / "changed.sh"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_pytest_fails_when_all_is_skipped(tmp_path):
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_x.py").write_text("import pytest\n\ndef test_x():\n    pytest.skip('no ssh')\n")
    command = [sys.executable, "-m", "pytest", "--rootdir", tmp_path, tmp_path]
    assert (
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    )
