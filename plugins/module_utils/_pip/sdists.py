# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Find out from an environment's own pip which sdist it would take, and where in its cache it would look for its wheel."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import parse_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip import output

# Runs in the environment, with the user's own settings. It is `pip install` itself, stopped where pip asks its cache: that
# is after it has read its settings and its indexes and has chosen, and before it downloads anything. Whatever differs from
# pip to pip (pages, links, hashes, yanked files, settings) is then as it is. The one place and its names have been the same
# since pip 20.0. Nothing is written: pip has no HTTP cache and does not look for a newer pip.
_QUERY = r"""
import copy, json, logging, os, sys
if sys.path[0] == "":
    del sys.path[0]  # the working directory, in which anything may lie
output = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what pip prints goes to standard error

from pip._internal.cache import WheelCache
from pip._internal.commands import create_command, install
from pip._internal.operations.prepare import RequirementPreparer
from pip._vendor.packaging.utils import canonicalize_name

class Stop(BaseException):
    pass

class Collector(logging.Handler):
    def emit(self, record):
        text = record.getMessage()
        if record.levelno < logging.ERROR and not text.startswith("Could not fetch URL"):
            return
        error = record.exc_info and record.exc_info[1]
        answer["messages"].append("%s %r" % (text, error) if error else text)

def at_cache(cache, link, package_name, supported_tags=None):
    name = canonicalize_name(package_name)
    formats = getattr(cache, "format_control", None)  # pip < 23.1
    answer.update(
        url=link.url_without_fragment,
        hash=[link.hash_name, link.hash],
        wheel=link.filename if link.is_wheel else None,
        folder=cache.get_path_for_link(link) if cache.cache_dir else None,
        formats=formats is None or "binary" in formats.get_allowed_formats(name),
    )
    raise Stop

def past_cache(*args, **kwargs):
    raise Stop

WheelCache.get = WheelCache.get_cache_entry = at_cache
for name in ("prepare_linked_requirement", "prepare_linked_requirements_more"):
    setattr(RequirementPreparer, name, past_cache)
install.check_externally_managed = lambda: None  # nothing is installed

logger = logging.getLogger("pip")
logger.setLevel(logging.DEBUG)
logger.addHandler(Collector())

def query(requirement):
    command = create_command("install")
    build_session, run = command._build_session, command.run

    def without_cache(options, *args, **kwargs):
        options = copy.copy(options)
        options.cache_dir = None
        return build_session(options, *args, **kwargs)

    def with_sources(options, args):
        name = canonicalize_name(args[0].split("==")[0])
        answer["sources"] = "source" in options.format_control.get_allowed_formats(name)
        answer["require_hashes"] = bool(options.require_hashes)
        try:
            return run(options, args)
        except Stop:
            return 0

    command._build_session, command.run = without_cache, with_sources
    try:
        command.main(
            ["--no-deps", "--ignore-installed", "--no-input", "--disable-pip-version-check", requirement]
        )
    except SystemExit:
        pass  # its messages say why

results = []
for requirement in json.loads(sys.argv[1]):
    answer = {"requirement": requirement, "messages": []}
    query(requirement)
    results.append(answer)
json.dump(results, output)
output.close()
"""

_PIN = r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*==\s*([A-Za-z0-9][A-Za-z0-9.!+_-]*)"
_INSTALL = "use torch_extension_mode: install"
_KNOB = (
    "Set torch_extension_sdist_url (option sdist_url) to the address of the sdist on the index of this node, or"
    f" {_INSTALL}."
)
_REPAIR = f"Mend that, or {_INSTALL}."
_FIRST_QUERYABLE_PIP = 20


def check_pinned(requirements: t.Sequence[str]) -> None:
    """Refuse what is no pinned requirement; pip would take it for an option, a path or a URL.

    :raises TorchExtensionError: with the first one that is none
    """
    for requirement in requirements:
        if not re.fullmatch(_PIN, requirement.strip()):
            raise TorchExtensionError(
                f"sdists has {requirement!r}, which does not pin one version of a package. Write for example"
                " flash-attn==2.8.3."
            )


def find_sdists(
    requirements: t.Sequence[str], executable: str, pip: str | None, cache: t.Mapping[str, t.Any], run: Run
) -> dict[str, dict[str, t.Any]]:
    """The sdists that an environment's own pip would take for pinned requirements, by the name of the package.

    :param executable: the environment's interpreter
    :param pip: version of its pip
    :param cache: its cache, as ``settings.describe_cache`` returns it
    :returns: for each ``requirement``, ``url``, ``folder`` and ``error``; either the first two are null or the last one is
    """
    requirement_by_name = {
        canonical(requirement.split("==")[0].strip()): requirement.strip() for requirement in requirements
    }
    if not requirement_by_name:
        return {}
    if pip is None:
        return _failures(
            requirement_by_name,
            f"{executable} has no pip, so there is no wheel cache to fill. Install pip, or {_INSTALL}.",
        )
    if int(pip.split(".")[0]) < _FIRST_QUERYABLE_PIP:
        return _failures(
            requirement_by_name, f"pip {pip} of {executable} is too old to be asked for the place of an sdist. {_KNOB}"
        )
    # -B: not even bytecode is written
    status, out, err = run([executable, "-B", "-c", _QUERY, json.dumps(list(requirement_by_name.values()))])
    try:
        answers = parse_json(out)
    except ValueError:
        last_line = (err.strip() or out.strip() or f"exit status {status}").splitlines()[-1].rstrip(".")
        return _failures(
            requirement_by_name, f"pip {pip} of {executable} does not answer: {output.redact(last_line)}. {_KNOB}"
        )
    return {name: parse_answer(answer, pip, cache) for name, answer in zip(requirement_by_name, answers)}


def parse_answer(answer: t.Mapping[str, t.Any], pip: str, cache: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The value for one requirement, from an answer of pip."""
    error = _explain_unusable(answer, pip, cache)
    if error:
        return _failure(answer["requirement"], error)
    url, (hash_name, digest) = answer["url"], answer["hash"]
    if digest is not None:  # it may be empty, and then the key has it so
        url += f"#{hash_name}={digest}"
    # pip's key may have the credentials of a link; the folder is told by pip itself and does not need them here
    return {
        "requirement": answer["requirement"],
        "url": re.sub(r"(?<=://)[^/@]*@", "", url),
        "folder": answer["folder"],
        "error": None,
    }


def _explain_unusable(answer: t.Mapping[str, t.Any], pip: str, cache: t.Mapping[str, t.Any]) -> str | None:
    requirement = answer["requirement"]
    unused = f"pip {pip} of this node would not use its cache for {requirement}"
    if answer.get("sources") is False:
        return f"{unused}: only-binary in its settings forbids sdists. {_REPAIR}"
    if "url" not in answer:
        if answer.get("require_hashes"):
            return f"{unused}: require-hashes is in its settings. {_REPAIR}"
        messages = [re.sub(r"\s+", " ", text).rstrip(". ") for text in answer["messages"]]
        failures = list(dict.fromkeys(filter(None, map(output.parse_fetch_failure, messages))))
        unreached = [failure for failure in failures if not failure.is_answered]
        if unreached:
            return (
                f"pip {pip} of this node cannot reach its index, so where the sdist of {requirement} is stays unknown:"
                f" {'; '.join(map(str, unreached))}. Mend index-url, proxy or cert in its settings. {_KNOB}"
            )
        reasons = [*map(str, failures), *map(output.redact, messages[-1:])] or ["it does not say why"]
        return f"pip {pip} of this node finds no sdist for {requirement}: {'; '.join(dict.fromkeys(reasons))}. {_KNOB}"
    if answer["wheel"]:
        return (
            f"{unused}: its index offers {answer['wheel']}, which is no sdist, and that is what it would install. Take it off"
            f" the index, or {_INSTALL}."
        )
    if not answer["folder"]:
        return f"{unused}: {cache['reason'] or 'it is switched off by no-cache-dir'}. {_REPAIR}"
    if not answer["formats"]:
        return f"{unused}: no-binary is in its settings, with which only pip >= 23.1 asks the cache. {_REPAIR}"
    return None


def _failure(requirement: str, error: str) -> dict[str, t.Any]:
    return {"requirement": requirement, "url": None, "folder": None, "error": error}


def _failures(requirement_by_name: t.Mapping[str, str], error: str) -> dict[str, dict[str, t.Any]]:
    return {name: _failure(requirement, error) for name, requirement in requirement_by_name.items()}
