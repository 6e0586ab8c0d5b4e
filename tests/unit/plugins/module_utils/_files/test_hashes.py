# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import check_sha256, sha256_of


def test_a_file_larger_than_a_chunk_has_the_hash_of_all_its_bytes(tmp_path):
    data = b"wheel" * (1 << 20)
    (tmp_path / "a.whl").write_bytes(data)
    assert sha256_of(str(tmp_path / "a.whl")) == hashlib.sha256(data).hexdigest()


def test_a_file_with_another_hash_than_the_expected_one_is_refused(tmp_path):
    path = tmp_path / "a.whl"
    path.write_bytes(b"wheel")
    digest = hashlib.sha256(b"wheel").hexdigest()
    assert check_sha256(str(path), None) == check_sha256(str(path), digest.upper()) == digest
    with pytest.raises(TorchExtensionError, match=f"a.whl has sha256 {digest}, wanted is {'0' * 64}"):
        check_sha256(str(path), "0" * 64)


def test_a_file_that_cannot_be_read_is_an_error_with_the_reason(tmp_path):
    with pytest.raises(TorchExtensionError, match="none cannot be read: No such file"):
        check_sha256(str(tmp_path / "none"), None)
