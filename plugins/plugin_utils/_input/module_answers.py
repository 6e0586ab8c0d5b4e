# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What the modules of this collection answer on nodes, held against what they may answer: a node can say whatever it likes."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._proof.verdict import DOES_NOT_FIT, FITS, UNKNOWN
from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import trial
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.action import (
    INSTALL,
    KEEP,
    REMOVE,
    REPLACE,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input import node_schema, schema
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input.visible import LONGEST, make_visible

_MOST = 100000  # items of a list
_ANY_SIZE = 1 << 62
_NAME = schema.words(300)
_LINE = schema.words(4096)
_TEXT = schema.words(1 << 20)
_NAMES = schema.list_of(_LINE, _MOST)
_TEXTS = schema.list_of(_TEXT, _MOST)
_COUNT = schema.integer(0, _ANY_SIZE)
_SECONDS = schema.number(0, 1e9)
_WHEEL_NAME = schema.form(r"[0-9A-Za-z][0-9A-Za-z._+!-]{0,250}\.whl", "the name of a wheel")

_ENVIRONMENT = node_schema.ENVIRONMENT
_GPU = schema.record(
    {
        "device": schema.nullable(_NAME),
        "name": schema.nullable(_NAME),
        "seconds": schema.nullable(_SECONDS),
        "max_error": schema.nullable(schema.number(-1e308, 1e308)),
    },
    {"compute_capability": schema.nullable(node_schema.COMPUTE_CAPABILITY), "failure": schema.nullable(_TEXT)},
)
_GPUS = schema.list_of(_GPU, 1000)
_TRIED = schema.one_of(trial.GPU, trial.IMPORT, trial.NONE)
_PROOFS = schema.list_of(
    schema.record({"filename": _LINE, "verdict": schema.one_of(FITS, DOES_NOT_FIT, UNKNOWN), "reasons": _TEXTS}), 1000
)
_WHEEL = schema.record(
    {
        "name": _NAME,
        "version": _NAME,
        "filename": _LINE,
        "action": schema.one_of(KEEP, INSTALL, REPLACE),
        "reason": _TEXT,
    },
    {"verify": _TRIED, "gpus": _GPUS},
)
_REMOVED = schema.record(
    {"name": _NAME, "version": schema.nullable(_NAME), "action": schema.one_of(REMOVE, KEEP), "reason": _TEXT}
)
_PACKAGE = schema.record(
    {
        "name": _NAME,
        "version": schema.nullable(_NAME),
        "filename": schema.nullable(_LINE),
        "ok": schema.boolean,
        "reasons": _TEXTS,
        "remedy": schema.nullable(_TEXT),
        "verify": _TRIED,
        "gpus": _GPUS,
    }
)
_COMPILER = schema.nullable(schema.record({"path": schema.path, "version": _NAME}))
_MACHINE = schema.record(
    {
        "cores": schema.integer(1, 1 << 20),
        "load": schema.number(0, 1e9),
        "memory_mib": _COUNT,
        "free_mib": _COUNT,
        "folder": schema.path,
        "cxx": _COMPILER,
        "cc": _COMPILER,
        "nvcc": schema.nullable(
            schema.record(
                {"path": schema.path, "home": schema.path, "version": node_schema.CUDA_VERSION},
                {"max_gcc": schema.nullable(schema.integer(0, 1000))},
            )
        ),
        "python_headers": schema.boolean,
        "python": schema.record(
            {
                "executable": schema.path,
                "tag": node_schema.PYTHON_TAG,
                "abi": node_schema.ABI_TAG,
                "prefix": schema.path,
                "version": node_schema.PYTHON_VERSION,
            }
        ),
        "torch": schema.nullable(
            schema.record(
                {
                    "version": node_schema.TORCH_VERSION,
                    "cuda": schema.nullable(node_schema.CUDA_VERSION),
                    "cxx11_abi": schema.nullable(schema.boolean),
                }
            )
        ),
        "libc": schema.nullable(node_schema.LIBC_VERSION),
        "machine": node_schema.MACHINE,
        "slurm": schema.boolean,
    }
)
_JOB = schema.record(
    {
        "state": schema.form("[a-z]{1,20}", "a state such as running"),
        "step": _COUNT,
        "steps": _COUNT,
        "seconds": _SECONDS,
        "message": _TEXT,
        "log": schema.path,
        "wheel": schema.nullable(
            schema.record(
                {
                    "filename": _WHEEL_NAME,
                    "path": schema.path,
                    "sha256": schema.sha256,
                    "size": schema.integer(1, 1 << 40),
                }
            )
        ),
        "compilers": schema.mapping_of(schema.nullable(_NAME), 100),
        "core_seconds": _SECONDS,
    }
)

#: what --diff shows
_DIFF = schema.one_or_more_of(
    schema.record({"before": _TEXT, "after": _TEXT}, {"before_header": _LINE, "after_header": _LINE}), 100
)

#: the latter is the first of the former, and is not taken from the node again
_ENVIRONMENTS, _FIRST = "environments", "environment"

#: of each module: the keys of its result that are always there, and those that may be
_RESULTS: dict[str, tuple[dict[str, schema.Schema], dict[str, schema.Schema]]] = {
    "torch_info": ({_ENVIRONMENTS: schema.list_of(_ENVIRONMENT, 1000, least=1)}, {"staged": _NAMES}),
    "torch_extension": (
        {"requirements": _NAMES, "cleared": _NAMES},
        {
            "wheels": schema.list_of(_WHEEL, 1000),
            "packages": schema.list_of(_REMOVED, 1000),
            "environment": _ENVIRONMENT,
            "diff": _DIFF,
            "leftovers": _NAMES,
            "damaged": _NAMES,  # of a failed one
            "stays": _TEXTS,
            "proofs": _PROOFS,
            "find_links": schema.nullable(schema.path),
        },
    ),
    "torch_verify": (
        {"ok": schema.boolean, "packages": schema.list_of(_PACKAGE, 1000), "environment": _ENVIRONMENT},
        {},
    ),
    "wheel_proof": ({"proofs": _PROOFS}, {"executable": schema.path, "milliseconds": _COUNT}),
    "wheel_pull": ({"folder": schema.path, "pulled": _NAMES, "missing": _NAMES}, {}),
    "build_job": ({}, {"machine": _MACHINE, "job": _JOB}),
}
#: what any module's result has, or Ansible adds to it; newer ones have objects of their own among warnings
_OF_ALL: dict[str, schema.Schema] = {
    "changed": schema.boolean,
    "failed": schema.boolean,
    "msg": _TEXT,
    "warnings": schema.list_of(schema.anything, _MOST),
    **dict.fromkeys(("deprecations", "rc", "exception", "module_stdout", "module_stderr"), schema.anything),
    # of a task that goes on in the background
    **dict.fromkeys(("ansible_job_id", "started", "finished", "results_file"), schema.anything),
}
_FACTS = "ansible_facts"
#: with the name of a kind; the only facts that a module of ours has, and Ansible's own
_DISCOVERED = "discovered_interpreter_"


def check_answer(module: str, answer: t.Mapping[str, t.Any], host: str) -> dict[str, t.Any]:
    """What a module may answer, of what it has answered, with nothing in its texts that a terminal would obey.

    The rest is left out: Ansible acts on some keys of a result, such as facts, whichever module it is of.

    :param module: its name, without the collection
    :param answer: as Ansible returns it
    :param host: in the inventory
    :raises TorchExtensionError: with the first thing in it that cannot be so
    """
    required, optional = _RESULTS[module]
    is_whole = not answer.get("failed") and "ansible_job_id" not in answer
    fields = {**required, **optional, **_OF_ALL}
    check = schema.record(required if is_whole else {}, fields)
    misfit = check({key: answer[key] for key in fields if key in answer}, module)
    if misfit:
        raise TorchExtensionError(
            make_visible(
                f"{host} has answered what {module} does not answer: {misfit}. Nothing is decided by that. Look at what answers there:"
                " at the interpreters in ansible_python_interpreter and torch_extension_python, and at who may change them."
            )
        )
    kept = make_visible({key: value for key, value in answer.items() if key in fields}, LONGEST)
    first = {_FIRST: kept[_ENVIRONMENTS][0]} if kept.get(_ENVIRONMENTS) else {}
    return {**kept, **first, **_discovered_interpreter(answer)}


def _discovered_interpreter(answer: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    facts = answer.get(_FACTS)
    found = {
        key: value
        for key, value in (facts.items() if isinstance(facts, t.Mapping) else ())
        if isinstance(key, str) and key.startswith(_DISCOVERED) and not schema.path(value, key)
    }
    return {_FACTS: found} if found else {}
