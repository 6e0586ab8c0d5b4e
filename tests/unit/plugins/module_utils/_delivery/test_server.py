# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.server import (
    build_opener,
    check_url,
    extract_certificates,
)


@pytest.mark.parametrize("url", ["https://artifacts.example/wheels/", "http://10.0.0.1:8081", "https://[::1]/a%20b"])
def test_the_url_of_a_folder_is_returned_unchanged(url):
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://artifacts.example/", "http:// or https:// and a host"),
        ("artifacts.example/wheels", "http:// or https:// and a host"),
        ("https:///wheels", "http:// or https:// and a host"),
        ("https://artifacts.example:0/", "http:// or https:// and a host"),
        ("https://artifacts.example:x/", "a number"),
        ("https://[::1/", "a number"),
        ("https://artifacts.example/wheels?token=s3cret", "without ? or #"),
        ("https://artifacts.example/wheels#a", "without ? or #"),
        ("https://artifacts.example/my wheels/", "%20"),
        ("https://artifacts.example/größe/", "%20"),
        ("https://artifacts.example/a\nb", "%20"),
        ("https://me:s3cret@artifacts.example/", "credentials for artifacts.example, which would be shown"),
        ("https://me@artifacts.example/", "credentials for artifacts.example, which would be shown"),
        ("https://me:s3/cret@artifacts.example/", "a number"),
    ],
)
def test_another_url_is_refused_and_its_credentials_are_not_shown(url, words):
    with pytest.raises(TorchExtensionError) as raised:
        check_url(url)
    assert words in str(raised.value)
    assert "torch_extension_pull_url" in str(raised.value)
    assert "s3" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["", "no PEM", "größe", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["empty", "text", "not ASCII", "broken"],
)
def test_a_ca_file_without_certificates_is_refused(text):
    with pytest.raises(TorchExtensionError, match=r"^torch_extension_pull_ca_path has no certificates \(PEM"):
        build_opener(text)


def test_only_certificates_are_taken_from_a_ca_file(certificate):
    assert "PRIVATE KEY" in certificate.read_text()
    assert "PRIVATE" not in extract_certificates(certificate.read_text())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("machine localhost login me s3cret\n", r"line \d is not understood"),
        ("\nmachine localhost login me password s3cret\ns3cret\n", r"line \d is not understood"),
    ],
    ids=["no keyword", "no entry"],
)
def test_a_malformed_netrc_is_an_error_that_does_not_show_the_password(text, reason, home):
    (home / ".netrc").write_text(text)
    with pytest.raises(TorchExtensionError, match=reason) as raised:
        build_opener()
    assert "s3cret" not in str(raised.value)
    assert str(raised.value).startswith(f"{home}/.netrc on the node cannot be read: ")


def test_a_netrc_that_is_not_utf_8_is_an_error(home):
    (home / ".netrc").write_bytes(b"machine localhost login me password s3cret\xff\n")
    with pytest.raises(TorchExtensionError, match=r"\.netrc on the node cannot be read: its characters are not"):
        build_opener()


def test_a_netrc_that_cannot_be_read_is_an_error(home):
    (home / ".netrc").mkdir()
    with pytest.raises(TorchExtensionError, match=r"\.netrc on the node cannot be read: Is a directory\. Correct it\."):
        build_opener()
