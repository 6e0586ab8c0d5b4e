# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What a node says of itself: the schema of its environment, as torch_info returns it, a survey keeps it and a lock has a part of it.

What a choice is computed from has a strict form: the tags of all minor versions of Python and of the C library that a node may have
are enumerated, so that these are bounded above all. The rest is text for people, and bounded in its length.
"""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._input import schema

# Of Python and of the C library, two digits are enough for each number that is enumerated.
PYTHON_VERSION = schema.form(r"3\.[0-9]{1,2}(\.[0-9][0-9A-Za-z.+_-]{0,40})?", "a version of Python 3 such as 3.11.2")
PYTHON_TAG = schema.form(r"[a-z]{1,20}3[0-9]{1,2}", "a tag such as cp311")
ABI_TAG = schema.form(r"[a-z]{1,20}3[0-9]{1,2}[a-z]{0,4}", "an ABI tag such as cp311 or cp313t")
LIBC_VERSION = schema.form(r"[0-9]{1,2}\.[0-9]{1,2}(\.[0-9A-Za-z.+_-]{1,40})?", "a version such as 2.36")
LIBC_NAME = schema.form(r"[A-Za-z][A-Za-z0-9_-]{0,20}", "the name of a C library such as glibc")
#: as a lock has it
LIBC = schema.form(
    r"[A-Za-z][A-Za-z0-9_-]{0,20}( [0-9]{1,2}\.[0-9]{1,2}(\.[0-9A-Za-z.+_-]{1,40})?)?", "a C library such as glibc 2.36"
)
MACHINE = schema.form(r"[A-Za-z0-9_]{1,32}", "a machine as uname -m writes it, such as x86_64")
# No number that packaging reads is longer than Python takes. It becomes a part of file names.
TORCH_VERSION = schema.form(r"([0-9A-Za-z][0-9A-Za-z.+!_~-]{0,127})?", "a version such as 2.8.0+cu128")
CUDA_VERSION = schema.form(r"[0-9]{1,3}(\.[0-9]{1,4}){0,3}", "a version such as 12.8")
HIP_VERSION = schema.form(
    r"[0-9]{1,3}(\.[0-9]{1,9}){0,3}([.+-][0-9A-Za-z.+_-]{0,64})?", "a version such as 6.2.41133-dd7f95766"
)
COMPUTE_CAPABILITY = schema.form(r"[0-9]{1,3}\.[0-9]{1,3}", "a compute capability such as 9.0")
VARIABLES = schema.mapping_of(schema.words(4096), 100)

_MOST_PACKAGES = 20000  # in one environment
_MOST_FILES = 100000  # of one package
_LINE = schema.words(4096)
_NAME = schema.words(300)

_PYTHON = schema.record(
    {
        "executable": schema.path,
        "version": PYTHON_VERSION,
        "tag": PYTHON_TAG,
        "abi": ABI_TAG,
        "implementation": schema.form(r"[a-z][a-z0-9_]{0,20}", "the name of an implementation such as cpython"),
        "externally_managed": schema.boolean,
        "prefix": schema.path,
        "site_packages": schema.nullable(schema.path),
    },
    {
        "program": schema.path,
        "search_path": schema.list_of(schema.record({"folder": schema.path, "owner": _NAME}), 1000),
        "access": schema.nullable(
            schema.record(
                {
                    "user": _NAME,
                    "owner": _NAME,
                    "is_owner": schema.boolean,
                    "writable": schema.boolean,
                    "read_only": schema.boolean,
                },
                {"environment_owner": _NAME, "locked": schema.nullable(schema.words(65536))},
            )
        ),
    },
)
_PLATFORM = schema.record(
    {
        "system": schema.form(r"[a-z0-9][a-z0-9_.-]{0,31}", "a system such as linux"),
        "machine": MACHINE,
        "libc": schema.nullable(schema.record({"name": LIBC_NAME, "version": schema.nullable(LIBC_VERSION)})),
    },
    {"libstdcxx": schema.nullable(schema.form(r"[0-9]{1,3}(\.[0-9]{1,4}){1,3}", "a version such as 3.4.30"))},
)
_TORCH = schema.record(
    {
        "version": TORCH_VERSION,
        "cuda": schema.nullable(CUDA_VERSION),
        "hip": schema.nullable(HIP_VERSION),
        "cxx11_abi": schema.nullable(schema.boolean),
        "path": schema.path,
    }
)
_GPU = schema.record(
    {
        "name": schema.nullable(_NAME),
        "compute_capability": schema.nullable(COMPUTE_CAPABILITY),
        "memory_mib": schema.nullable(schema.integer(0, 1 << 40)),
    }
)
_ORIGIN = schema.record({"filename": schema.words(1000), "sha256": schema.nullable(_NAME)})
_SDIST = schema.record(
    {
        "requirement": _NAME,
        "url": schema.nullable(_LINE),
        "folder": schema.nullable(schema.path),
        "error": schema.nullable(schema.words(65536)),
    }
)
_DAMAGE = schema.record({"missing": schema.list_of(_LINE, _MOST_FILES), "changed": schema.list_of(_LINE, _MOST_FILES)})
_SHADOW = schema.record({"module": _NAME, "file": schema.path, "version": schema.nullable(_NAME), "place": _LINE})

#: Surveys of earlier releases lack some of what is optional, and all surveys what changes every day.
ENVIRONMENT = schema.record(
    {
        "python": _PYTHON,
        "platform": _PLATFORM,
        "torch": schema.nullable(_TORCH),
        "installers": schema.record(
            {"pip": schema.nullable(_NAME), "uv": schema.nullable(_NAME)}, {"reason": schema.nullable(_LINE)}
        ),
        "pip_cache": schema.record(
            {"dir": schema.nullable(schema.path), "usable": schema.boolean, "reason": schema.nullable(_LINE)},
            {"only_binary": schema.list_of(_NAME, _MOST_PACKAGES), "no_binary": schema.list_of(_NAME, _MOST_PACKAGES)},
        ),
        "variables": VARIABLES,
        "distributions": schema.mapping_of(schema.nullable(_NAME), _MOST_PACKAGES),
        "origins": schema.mapping_of(_ORIGIN, _MOST_PACKAGES),
    },
    {
        "sdists": schema.mapping_of(_SDIST, 1000),
        "gpus": schema.nullable(schema.list_of(_GPU, 1000)),
        "driver": schema.nullable(
            schema.record({"version": schema.nullable(_NAME), "cuda": schema.nullable(CUDA_VERSION)})
        ),
        "damage": schema.mapping_of(_DAMAGE, 1000),
        "shadows": schema.mapping_of(_SHADOW, 1000),
        "leftovers": schema.list_of(_LINE, _MOST_FILES),
    },
)


def check_environment(environment: t.Any) -> None:
    """Refuse what is not the environment of a node.

    :raises TorchExtensionError: with the first thing that it lacks, or that cannot be so
    """
    misfit = ENVIRONMENT(environment, "environment")
    if misfit:
        raise TorchExtensionError(
            f"{misfit}. An environment is the dictionary 'environment' that torch_info returns: ask the node again, or make the survey"
            " anew (torch_extension_survey)."
        )
