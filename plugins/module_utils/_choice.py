# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Which of the wheels that exist serves a node best."""

from __future__ import annotations

import typing as t


class Asset(t.NamedTuple):
    """A file that a source offers."""

    filename: str
    url: str
    size: t.Optional[int] = None  # bytes
    sha256: t.Optional[str] = None  # hexadecimal, lower case
    release: t.Optional[str] = None  # the tag of the release that it stands in
