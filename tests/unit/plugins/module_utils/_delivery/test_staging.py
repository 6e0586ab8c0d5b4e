# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys

from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import staging

NAME = "flash_attn-2.8.3-py3-none-any.whl"


def test_a_part_that_somebody_writes_is_not_abandoned(tmp_path):
    parts = [staging.part_name(NAME, digit * 64) for digit in "01"]
    for name in (NAME, *parts):
        (tmp_path / name).touch()
    code = "import sys; file = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, tmp_path / parts[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert staging.list_abandoned(str(tmp_path)) == [parts[1], NAME]
        process.kill()
    assert staging.list_abandoned(str(tmp_path)) == [*parts, NAME]
