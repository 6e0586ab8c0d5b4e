# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Types that all parts share."""

from __future__ import annotations

import typing as t

# A command line in; exit status, standard output and standard error out.
Run = t.Callable[[t.Sequence[str]], "tuple[int, str, str]"]
