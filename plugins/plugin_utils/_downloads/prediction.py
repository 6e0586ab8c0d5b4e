# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What would be downloaded: METADATA and size of wheels that are not on the control node, read without downloading them."""

from __future__ import annotations

import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads import local_files
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.provenance import Provenance
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.remote_zip import NoPartError, RemoteFile
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import (
    MissingFileError,
    UnservedError,
)


class Prospect(t.NamedTuple):
    """A wheel that is not here yet."""

    metadata: wheel_file.WheelMetadata | None  # None where only the download tells
    size: int | None  # bytes; None likewise


def look_ahead(
    url: str,
    filename: str,
    ca_path: str | None,
    provenance: Provenance,
    locate: t.Callable[[str], str] = lambda url: url,
) -> Prospect:
    """Look at a wheel where it is.

    :param url: as ``Downloader.get`` takes it
    :param ca_path: a file of CA certificates to trust instead of the usual ones
    :param provenance: with further links, which are tried where one does not give the wheel
    :param locate: tells the whole link for one that lacks its signature
    :raises TorchExtensionError: if the download would fail, as far as that shows
    """
    failures, is_there = [], False
    for each in (url, *provenance.other_urls):
        try:
            return _look_ahead(locate(each), filename, ca_path)
        except NoPartError:  # whether it is the wheel, or a view of it for people, only the download tells
            is_there = True
        except MissingFileError as exc:
            failures.append(f"{exc}{provenance.explain_missing(each)}")
        except TorchExtensionError as exc:
            failures.append(str(exc))
    if is_there:
        return Prospect(None, None)
    raise UnservedError(" ".join(failures))


def _look_ahead(url: str, filename: str, ca_path: str | None) -> Prospect:
    local_file = local_files.parse_url(url)
    if local_file:
        with local_files.open_seekable(local_file) as (size, file):
            return Prospect(wheel_file.read_metadata(filename, file), size)
    with RemoteFile(url, ca_path, "torch_extension_github_url") as remote:
        metadata = wheel_file.read_metadata(filename, remote)
        wheel_file.check_same_wheel(metadata, filename)
        return Prospect(metadata, remote.size)
