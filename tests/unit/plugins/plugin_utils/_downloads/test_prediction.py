# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import tarfile

import pytest
from wheels import build_wheel

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.prediction import look_ahead
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.provenance import Provenance


@pytest.fixture
def wheel(tmp_path):
    """A wheel of some MB."""
    noise = bytes(number * 31 % 251 for number in range(3 << 20))
    return build_wheel(tmp_path / "made", requires=["torch", "einops"], extra=[("flash_attn/blob", noise)])


def test_of_a_wheel_on_a_server_only_the_end_is_read(wheel, server):
    url = server.serve_file("/wheel", wheel.read_bytes())
    prospect = look_ahead(url, wheel.name, None, Provenance())
    assert (prospect.metadata.requires, prospect.size) == (("torch", "einops"), wheel.stat().st_size)
    assert sum(server.sent_sizes) < 1 << 20


def test_a_member_of_an_archive_is_read_in_its_place(wheel, tmp_path):
    with tarfile.open(tmp_path / "bundle.tar", "w") as archive:
        archive.add(wheel, f"wheels/{wheel.name}")
    prospect = look_ahead(f"file://{tmp_path}/bundle.tar#wheels/{wheel.name}", wheel.name, None, Provenance())
    assert (prospect.metadata.requires, prospect.size) == (("torch", "einops"), wheel.stat().st_size)


def test_where_a_server_gives_no_part_of_a_file_its_requirements_stay_unknown(wheel, server):
    server.serve_body("/wheel", wheel.read_bytes())
    assert look_ahead(f"{server.url}/wheel", wheel.name, None, Provenance()) == (None, None)


def test_a_further_link_serves_where_the_first_does_not(wheel, server):
    url = server.serve_file("/wheel", wheel.read_bytes())
    provenance = Provenance(other_urls=(url,))
    assert look_ahead(f"{server.url}/lost", wheel.name, None, provenance).size == wheel.stat().st_size


def test_what_is_no_wheel_at_the_first_link_is_looked_for_at_the_next(wheel, server):
    """Pages of repositories link to a view for people first; some servers give that as a whole, some in parts."""
    url = server.serve_file("/wheel", wheel.read_bytes())
    server.serve_body("/view", b"<html>a view</html>")
    server.serve_file("/view-in-parts", b"<html>a view</html>" * 9999)
    for view in ("view", "view-in-parts"):
        prospect = look_ahead(f"{server.url}/{view}", wheel.name, None, Provenance(other_urls=(url,)))
        assert prospect.size == wheel.stat().st_size


@pytest.mark.parametrize("trust", [False, True], ids=["not trusted", "lost"])
def test_what_would_fail_the_download_is_said_in_the_same_words(trust, wheel, tls_server, certificate, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    tls_server.serve_file("/wheel", wheel.read_bytes())
    words = r"/lost does not exist \(404\), and nobody has told that it does" if trust else "torch_extension_ca_path"
    url = f"{tls_server.url}/{'lost' if trust else 'wheel'}"
    with pytest.raises(TorchExtensionError, match=words):
        look_ahead(url, wheel.name, str(certificate) if trust else None, Provenance("guess"))


def test_another_wheel_under_this_name_is_refused(wheel, server, tmp_path):
    other = build_wheel(tmp_path / "other", name="other", version="1")
    url = server.serve_file("/wheel", other.read_bytes())
    with pytest.raises(TorchExtensionError, match="is not what its name says"):
        look_ahead(url, wheel.name, None, Provenance())


def test_a_file_of_certificates_that_holds_none_is_named_with_its_setting(wheel, tls_server, tmp_path):
    url = tls_server.serve_file("/wheel", wheel.read_bytes())
    (tmp_path / "ca.pem").write_text("none\n")
    with pytest.raises(TorchExtensionError, match=r"torch_extension_ca_path .* holds none that can be read .*PEM\.$"):
        look_ahead(url, wheel.name, str(tmp_path / "ca.pem"), Provenance())
