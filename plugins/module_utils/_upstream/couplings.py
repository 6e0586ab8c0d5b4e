# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Which versions of one package do without which versions of another, as data.

No metadata tells it: pip is content with both, both load and compute, and one of them does not use the other. Upstream has
such a gate in its code, where the row says. Versions that are newer than the newest one that was read have no row.
"""

from __future__ import annotations

from typing import NamedTuple

#: What becomes of a version that is not accepted.
DOES_WITHOUT = "does without"
FAILS_WITH = "fails with"


class Gate(NamedTuple):
    """What a version of a package accepts of another package."""

    source: str  # where upstream has it: a tag or branch of its repository, a colon, and a file
    minimum: str
    maximum: str
    minimum_by_capability: tuple[tuple[str, str], ...] = ()  # another minimum, from a compute capability on
    excludes_maximum: bool = False
    counts_label: bool = True  # then 2.8.3+cu128 is newer than 2.8.3, as PEP 440 has it
    consequence: str = DOES_WITHOUT


class Coupling(NamedTuple):
    """A package with a gate for another one."""

    title: str
    distributions: tuple[str, ...]  # the first that is there tells the version
    accepts: str  # the distribution that the gate is for
    gates: tuple[tuple[str, Gate], ...]  # (first version, gate), oldest first; a row holds until the next one
    newest_read: str  # upstream's newest version whose gate was looked at


_ONE_FILE = "transformer_engine/pytorch/attention.py"
_DOT_PRODUCT = "transformer_engine/pytorch/dot_product_attention"
_ATTENTION = "transformer_engine/pytorch/attention/dot_product_attention"
_BLACKWELL = (("10.0", "2.7.3"),)

COUPLINGS = (
    # The maximum is _flash_attn_max_version, later FlashAttentionUtils.max_version, in the file named. What it is compared
    # with is beside it, later in backends.py of that folder. All tags were looked at; named is the first of each row.
    # Of 2.19 there was a branch, and no tag yet. 2.19.0 and 2.20.2 were read in the wheels of transformer_engine, too.
    Coupling(
        title="Transformer Engine",
        # The gate is in the Python code, which comes with the first; all of them have one version.
        distributions=(
            *("transformer-engine", "transformer-engine-torch"),
            *("transformer-engine-cu13", "transformer-engine-cu12"),
        ),
        accepts="flash-attn",
        gates=(
            ("1.9", Gate(f"v1.9:{_ONE_FILE}", "2.0.6", "2.5.8", consequence=FAILS_WITH)),
            ("1.11", Gate(f"v1.11:{_ONE_FILE}", "2.0.6", "2.6.3", consequence=FAILS_WITH)),
            ("1.12", Gate(f"v1.12:{_ONE_FILE}", "2.1.1", "2.6.3")),
            ("2.0", Gate(f"v2.0:{_ONE_FILE}", "2.1.1", "2.7.3", _BLACKWELL)),
            ("2.1", Gate(f"v2.1:{_ONE_FILE}", "2.1.1", "2.7.4.post1", _BLACKWELL)),
            ("2.2", Gate(f"v2.2:{_DOT_PRODUCT}/utils.py", "2.1.1", "2.7.4.post1", _BLACKWELL)),
            ("2.3", Gate(f"v2.3:{_ATTENTION}/utils.py", "2.1.1", "2.7.4.post1", _BLACKWELL)),
            ("2.6", Gate(f"v2.6:{_ATTENTION}/utils.py", "2.1.1", "2.8.1", _BLACKWELL)),
            ("2.10", Gate(f"v2.10:{_ATTENTION}/utils.py", "2.1.1", "2.8.3", _BLACKWELL)),
            ("2.15", Gate(f"v2.15:{_ATTENTION}/utils.py", "2.1.1", "2.8.3", _BLACKWELL, counts_label=False)),
            # upstream's #3356: 2.8.3.post1 is accepted, and 2.8.4 is not
            ("2.19", Gate(f"release_v2.19:{_ATTENTION}/utils.py", "2.1.1", "2.8.4", _BLACKWELL, excludes_maximum=True)),
        ),
        newest_read="2.20.2",
    ),
)
