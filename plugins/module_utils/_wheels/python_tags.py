# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Which Python and ABI tags of wheels an interpreter accepts (PEP 425), in the order in which pip prefers them.

The control node chooses by it, and the node checks by it, so that both say the same. Nodes have no ``packaging``; a test holds
this against it.
"""

from __future__ import annotations

import functools
import typing as t

_FIRST_STABLE = 2  # minor version of Python 3 that has a stable ABI


@functools.lru_cache(maxsize=64)
def accepted_pairs(version: str, tag: str, abi: str) -> dict[tuple[str, str], int]:
    """The pairs of Python tag and ABI tag that CPython accepts, each with its rank: 0 is the most specific.

    :param version: of the interpreter, ``3.12`` or ``3.12.3``
    :param tag: as in "cp312"
    :param abi: as in "cp312", or "cp313t" of a free-threaded build, which has a stable ABI of its own (PEP 803)
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    stable = "abi3t" if abi.endswith("t") else "abi3"
    pairs = [(tag, abi), (tag, stable), (tag, "none")]
    pairs += [(f"cp{major}{older}", stable) for older in range(minor - 1, _FIRST_STABLE - 1, -1)]
    pairs += [(f"py{major}{minor}", "none"), (f"py{major}", "none")]
    pairs += [(f"py{major}{older}", "none") for older in range(minor - 1, -1, -1)]
    return {pair: rank for rank, pair in enumerate(pairs)}


def format_pairs(pythons: t.Iterable[str], abis: t.Iterable[str]) -> str:
    """The Python and ABI tags of a wheel in words: "cp312", or "cp39-abi3"."""
    python, abi = ("/".join(sorted(tags)) for tags in (pythons, abis))
    return python if python == abi else f"{python}-{abi}"
