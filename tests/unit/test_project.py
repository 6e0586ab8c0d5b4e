# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said in two places of the project must agree, and some things must stand nowhere in it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import jinja2.meta
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ansible_collections.airgap.torch_extensions.plugins.module_utils._upstream.packages import PACKAGES
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._actions.ansible_core import OLDEST
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.places import PLACES

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parent.parent.name for path in ROOT.glob("roles/*/tasks/main.yml"))
MODULES = sorted(path.stem for path in ROOT.glob("plugins/modules/[!_]*.py"))
DOCUMENTED = sorted(
    str(path.relative_to(ROOT))
    for kind in (
        "become",
        "cache",
        "callback",
        "connection",
        "filter",
        "inventory",
        "lookup",
        "modules",
        "test",
        "vars",
    )
    for path in ROOT.glob(f"plugins/{kind}/[!_]*.py")
)


def load(path: str):
    return yaml.safe_load((ROOT / path).read_text())


def run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def templates(value: object) -> list[str]:
    """The strings in it, at any depth."""
    if isinstance(value, str):
        return [value]
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for one in within for text in templates(one)]


def requirements(path: str) -> list[Requirement]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in (ROOT / path).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """The lines of the repository that have the pattern, as FILE:NUMBER: LINE."""
    found = []
    for path in run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        file = ROOT / path
        if not path or file.is_symlink() or not file.is_file():
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path}:{number}: {line.strip()[:120]}")
    return found


def registry_hosts() -> set[str]:
    """The package registries of pip, npm and apt, as they are set on this machine."""
    code = "from pip._internal.models.index import PyPI; print(PyPI.url, 'https://' + PyPI.file_storage_domain)"
    told = run(sys.executable, "-c", code) + run(sys.executable, "-m", "pip", "config", "list")
    if shutil.which("npm"):
        told += run("npm", "config", "get", "registry")
    apt = Path("/etc/apt")
    for source in [apt / "sources.list", *apt.glob("sources.list.d/*")]:
        told += source.read_text() if source.is_file() else ""
    return set(re.findall(r"https?://(?:[^/@\s']*@)?([^/\s':]+)", told))


def test_there_is_something_to_check():
    assert ROLES
    assert MODULES
    assert DOCUMENTED


@pytest.mark.parametrize("role", ROLES)
def test_defaults_of_a_role_agree_with_its_argument_specs(role):
    options = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    documented = {name: spec.get("default") for name, spec in options.items() if not spec.get("required")}
    assert (load(f"roles/{role}/defaults/main.yml") or {}) == documented


@pytest.mark.parametrize("role", ROLES)
def test_the_documentation_of_a_role_has_each_variable(role):
    rows = [line for line in (ROOT / f"roles/{role}/README.md").read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(rf"`({role}_\w+)`", row.split("|")[1])}
    entries = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"].values()
    assert {option for entry in entries for option in entry["options"]} - named == set()


def test_no_comment_stands_where_ansible_quotes_it_at_each_failure_of_a_task():
    """Since ansible-core 2.19 a failure shows the two lines above the name of its task."""
    shown = []
    for path in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml")]:
        text = path.read_text()
        blocks = re.findall(r"^( *)- name: (.*)\n(?:\1  .*\n)*?\1  block:", text, re.MULTILINE)
        lines = text.splitlines()
        for number, line in enumerate(lines):
            name = re.match(r"( *)- name: (.*)", line)
            if name and (name[1] or "tasks" in path.parts) and name.groups() not in blocks:
                above = lines[max(number - 2, 0) : number]
                shown += [f"{path.relative_to(ROOT)}: {each}" for each in above if each.lstrip().startswith("#")]
    assert shown == []


def test_each_file_of_unit_tests_has_a_name_of_its_own():
    """pytest imports them by their names alone."""
    names = [path.name for path in ROOT.glob("tests/unit/**/test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


@pytest.mark.parametrize("role", ROLES)
def test_variables_of_a_role_bear_its_name(role):
    options = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert [name for name in options if not name.startswith(f"{role}_")] == []


def variables_read(text: str, role: str) -> set[str]:
    """The names of variables that tasks read, and what those of the role are made of reads."""
    internal = load(f"roles/{role}/vars/main.yml")
    found, unread = set(), [text]
    while unread:
        new = set(re.findall(rf"\b(?:__)?{role}_\w+", unread.pop())) - found
        found |= new
        unread += [str(internal[name]) for name in new if name in internal]
    return found


def entry_points(role: str) -> set[str]:
    """The files of tasks that people include: those that playbooks and the README name, and those that no other of them includes."""
    tasks = {path.stem: path.read_text() for path in ROOT.glob(f"roles/{role}/tasks/*.yml")}
    included = re.findall(
        r'(?:import|include)_tasks: (?:"{{ role_path }}/tasks/)?(\w+)\.yml', "\n".join(tasks.values())
    )
    included += re.findall(r"'(\w+)\.yml'", "\n".join(tasks.values()))  # of which one is chosen
    texts = [path.read_text() for path in [*ROOT.glob("playbooks/*.yml"), ROOT / f"roles/{role}/README.md"]]
    named = re.findall(r"tasks_from: (\w+)\.yml", "\n".join(texts))
    named += re.findall(r"^\| `(\w+)\.yml` \|", (ROOT / f"roles/{role}/README.md").read_text(), re.MULTILINE)
    return (set(tasks) - set(included)) | set(named)


@pytest.mark.parametrize("role", ROLES)
def test_each_entry_point_of_a_role_is_documented(role):
    documented = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]
    assert {"main", "plan", "report"} <= entry_points(role)
    assert entry_points(role) <= set(documented)
    playbooks = {path.stem for path in ROOT.glob("playbooks/*.yml")}
    assert set(documented) <= entry_points(role) | playbooks


@pytest.mark.parametrize("role", ROLES)
def test_an_entry_point_of_a_role_documents_the_variables_that_it_reads(role):
    documented = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]
    of_main = documented["main"]["options"]
    for name in entry_points(role) - {"main"}:
        options = documented[name]["options"]
        files = [path for path in (f"roles/{role}/tasks/{name}.yml", f"playbooks/{name}.yml") if (ROOT / path).exists()]
        read = variables_read(" ".join(str(load(path)) for path in files), role)
        assert options.keys() & of_main.keys() == read & of_main.keys(), name
        for fact in ("type", "elements", "choices", "no_log"):
            facts = {option: spec.get(fact) for option, spec in options.items()}
            assert facts == {option: of_main.get(option, spec).get(fact) for option, spec in options.items()}, name


@pytest.mark.parametrize("role", ROLES)
def test_each_variable_that_a_playbook_reads_is_documented(role):
    entries = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"].values()
    documented = {option for entry in entries for option in entry["options"]}
    registered = {
        name
        for path in ROOT.glob(f"roles/{role}/tasks/*.yml")
        for name in re.findall(r"register: (\w+)", path.read_text())
    }
    texts = [path.read_text() for path in ROOT.glob("playbooks/**/*.yml")]
    read = set(re.findall(rf"(?<!_)\b{role}_\w+", "\n".join(texts)))
    assert f"{role}_hosts" in read
    assert read - documented - registered == set()


def test_no_file_of_a_playbook_stands_in_for_one_of_the_role():
    # a file that is imported by its name is looked for in `tasks` beside the playbook, too, and there first where imports are nested
    imported = [
        line.split("import_tasks: ")[1]
        for path in ROOT.glob("roles/*/tasks/*.yml")
        for line in path.read_text().splitlines()
        if "import_tasks:" in line
    ]
    assert len(imported) > 5
    assert [name for name in imported if not name.startswith('"{{ role_path }}/tasks/')] == []


@pytest.mark.parametrize("tasks", ["plan", "install"])
def test_what_the_process_of_a_node_templates_has_no_filter(tasks):
    (task,) = load(f"roles/torch_extension/tasks/{tasks}.yml")
    (arguments,) = (value for name, value in task.items() if name.startswith("airgap."))
    unread = [*templates(arguments), "{{ " + task.get("when", "true") + " }}"]
    variables = load("roles/torch_extension/defaults/main.yml") | load("roles/torch_extension/vars/main.yml")
    environment, names = jinja2.Environment(autoescape=True), set()
    assert len(unread) > 10
    for text in unread:
        tree = environment.parse(text)
        assert not list(tree.find_all(jinja2.nodes.Filter)), text
        # Jinja looks up all names of a template before it decides which of them it needs
        new = jinja2.meta.find_undeclared_variables(tree) - names
        names |= new
        unread += [text for name in sorted(new) for text in templates(variables.get(name))]
    assert any(name in variables for name in names)


@pytest.mark.parametrize("path", DOCUMENTED)
def test_plugin_is_documented(path):
    texts = {
        node.targets[0].id: node.value.value
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for part in ("DOCUMENTATION", "EXAMPLES", "RETURN"):
        assert yaml.safe_load(texts[part]), part


def test_action_plugins_belong_to_modules():
    assert {path.stem for path in ROOT.glob("plugins/action/[!_]*.py")} <= set(MODULES)


def test_all_modules_take_their_defaults_from_one_group():
    assert load("meta/runtime.yml")["action_groups"] == {"torch_extensions": MODULES}


def test_execution_environment_has_the_requirements_of_the_control_node():
    assert load("meta/execution-environment.yml")["dependencies"]["python"] == "requirements.txt"
    assert requirements("requirements.txt")


def test_development_requirements_are_pinned():
    loose = [
        f"{path.name}: {requirement}"
        for path in ROOT.glob("requirements-dev/*.txt")
        for requirement in requirements(f"requirements-dev/{path.name}")
        if [specifier.operator for specifier in requirement.specifier] != ["=="]
    ]
    assert loose == []


def cores() -> dict[str, Version]:
    """The versions of ansible-core that the matrix has, by the names of their files, the oldest first."""
    names = [path.stem.removeprefix("core-") for path in ROOT.glob("requirements-dev/core-*.txt")]
    pinned = {name: requirements(f"requirements-dev/core-{name}.txt")[0].specifier for name in names}
    versions = {name: Version(next(iter(specifier)).version) for name, specifier in pinned.items()}
    return dict(sorted(versions.items(), key=lambda item: item[1]))


def test_each_ansible_core_that_is_supported_is_in_the_matrix():
    supported = SpecifierSet(load("meta/runtime.yml")["requires_ansible"])
    oldest, *_others, newest = minors = [version.minor for version in cores().values()]
    assert minors == list(range(oldest, newest + 1))
    assert list(cores()) == [*(f"2.{minor}" for minor in minors[:-1]), "newest"]
    assert {version.major for version in cores().values()} == {2}
    assert f"2.{oldest}.0" in supported
    assert f"2.{oldest - 1}.99" not in supported
    assert (2, oldest) == OLDEST
    assert load("roles/torch_extension/meta/main.yml")["galaxy_info"]["min_ansible_version"] == f"2.{oldest}"


def test_each_ansible_core_tells_the_pythons_of_its_control_node():
    for name in cores():
        assert re.search(r"Python 3\.\d+ to 3\.\d+\n$", (ROOT / f"requirements-dev/core-{name}.txt").read_text())


def test_all_is_tested_on_the_oldest_ansible_core():
    assert f"-r core-{next(iter(cores()))}.txt" in (ROOT / "requirements-dev/dev.txt").read_text().splitlines()


def test_the_documentation_names_the_oldest_ansible_core_and_pythons():
    readme = (ROOT / "README.md").read_text()
    python = load("tests/config.yml")["modules"]["python_requires"].removeprefix(">=")
    assert f"ansible-core {next(iter(cores()))} or newer" in readme
    assert f"Python {python} or newer for Ansible" in readme
    assert f'target-version = "py{python.replace(".", "")}"' in (ROOT / "ruff.toml").read_text()
    assert f"No Ansible, Python {python} |" in (ROOT / "docs/development.md").read_text()
    assert f"runs on Python {python}," in (ROOT / "CONTRIBUTING.md").read_text()


def headings(page: Path) -> set[str]:
    """What a link to a heading of the page says behind its #."""
    titles = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_of_the_documentation_lead_somewhere():
    broken, followed = [], 0
    for page in (ROOT / path for path in run("git", "ls-files", "*.md").splitlines()):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path, _hash, heading = link.partition("#")
            target = page.parent / path if path else page
            if "://" in link:
                continue
            followed += 1
            if not target.exists() or (heading and heading not in headings(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert followed
    assert broken == []


@pytest.mark.parametrize("path", ["README.md", "roles/torch_extension/meta/argument_specs.yml"])
def test_the_documentation_names_all_packages(path):
    assert PACKAGES.keys() - set(re.findall(r"[\w-]+", (ROOT / path).read_text())) == set()


def test_the_documentation_has_the_table_of_known_places():
    (section,) = re.findall(
        r"^## Known places\n(.*?)^## ", (ROOT / "docs/choosing.md").read_text(), re.MULTILINE | re.DOTALL
    )
    rows = [
        f"| `{name}` | {place.publisher} | {', '.join(each for each in PACKAGES if each in place.packages)}"
        f" | {place.vouchers} | {'yes' if place.is_trusted else 'no'} |"
        for name, place in PLACES.items()
    ]
    assert [line for line in section.splitlines() if line.startswith("| `")] == rows


def test_version_is_in_the_changelog():
    version = load("galaxy.yml")["version"]
    changelog = ROOT / "changelogs/changelog.yaml"
    released = yaml.safe_load(changelog.read_text())["releases"] if changelog.exists() else {}
    assert version in released or list(ROOT.glob("changelogs/fragments/*.yml"))


def test_ansible_test_ignores_nothing():
    ignored = {path.name: path.read_text().split("\n") for path in ROOT.glob("tests/sanity/ignore-*.txt")}
    assert {name: lines for name, lines in ignored.items() if any(lines)} == {}


def test_nothing_is_left_to_do():
    words = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME")) + r")\b")
    assert lines_with(words) == []


def test_no_registry_is_named():
    hosts = registry_hosts()
    assert hosts
    assert lines_with(re.compile(r"(?<![.\w-])(" + "|".join(map(re.escape, sorted(hosts))) + ")")) == []


def test_no_path_of_this_machine_is_named():
    paths = [str(path) for path in (ROOT, Path.home() / ".pyenv") if len(path.parts) > 2]
    assert lines_with(re.compile(r"(?<![\w./-])(" + "|".join(map(re.escape, paths)) + r")(?![\w-])")) == []
