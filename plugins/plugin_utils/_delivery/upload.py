# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Upload files to the server inside the gap that the nodes download them from (WebDAV's PUT, RFC 9110, 9.3.4)."""

from __future__ import annotations

import contextlib
import typing as t
from urllib.parse import quote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.redaction import in_one_line
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.sizes import parse_size
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.credentials import host_of
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.server import OTHER_FILE_ADVICE
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import File
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http_session
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import root_cause

with contextlib.suppress(ImportError):  # http_session.py says so
    import requests

_TIMEOUTS = (30, 300)  # to connect; between two pieces, and until a server has put away what it was sent
_ADVICE = "Nothing was changed on the nodes. torch_extension_delivery has other ways, such as copy."


class Uploader:
    """Puts files into one folder of a server."""

    def __init__(self, url: str, ca_path: str | None) -> None:
        """
        :param url: of the folder, checked before
        :param ca_path: a file of CA certificates (PEM) to trust instead of the usual ones
        :raises TorchExtensionError: if a library is missing
        """
        self._url, self._host = url.rstrip("/"), urlsplit(url).hostname
        self._session = http_session.open_session(named_url=url, retries=False)
        self._verify = ca_path or True

    def upload(self, file: File) -> bool:
        """Upload a file, unless the server has it by now.

        :returns: whether it was sent
        :raises TorchExtensionError: if that does not work, or another file has its name
        """
        url = f"{self._url}/{quote(file.name, safe='')}"
        with self._explain_errors(file):
            existing = self._request("HEAD", url)
            size = parse_size(existing.headers.get("Content-Length")) if existing.status_code == 200 else None
            if size == file.size:
                return False
            if size is not None:
                raise TorchExtensionError(
                    f"{url} has {size} bytes, wanted are {file.size}: it is another file, and stays. {OTHER_FILE_ADVICE}"
                    f" {_ADVICE}"
                )
            if existing.status_code == 401:  # before all is sent
                raise self._refusal(file, existing)
            with open(file.path, "rb") as data:
                headers = {"X-Checksum-Sha256": file.sha256}  # Artifactory compares it with what arrives
                response = self._request("PUT", url, data=data, headers=headers)
        if response.status_code not in (200, 201, 202, 204):
            raise self._refusal(file, response)
        return True

    def _request(self, method: str, url: str, **options: t.Any) -> requests.Response:
        """The answer, without its body."""
        with self._session.request(
            method,
            url,
            timeout=_TIMEOUTS,
            verify=self._verify,
            allow_redirects=method == "HEAD",
            stream=True,
            **options,
        ) as response:
            return response

    def _refusal(self, file: File, response: requests.Response) -> TorchExtensionError:
        meaning = {
            401: f"It wants credentials for {self._host} in ~/.netrc of the control node; they are sent over https alone.",
            403: f"It wants other credentials for {self._host} in ~/.netrc of the control node, or takes no files there.",
            404: "There is no such folder, and it does not make it.",
            405: "It takes no files there.",
            409: "There is no such folder, and it does not make it.",
            413: "It takes no files of that size.",
            507: "It has no room.",
        }
        status = in_one_line(f"{response.status_code} {response.reason or ''}")
        target = response.headers.get("Location", "")
        if response.is_redirect and host_of(target):  # without its path, which may be signed
            scheme = target.partition(":")[0]
            meaning[response.status_code] = f"It leads to {scheme}://{host_of(target)}, where no upload follows it."
        return TorchExtensionError(
            f"{self._url} does not take {file.name} from the control node ({status})."
            f" {meaning.get(response.status_code, 'Look at its log; its disk may be full.')} Put the file there yourself (it is"
            f" {file.path} on the control node), or name another folder in torch_extension_pull_url. {_ADVICE}"
        )

    @contextlib.contextmanager
    def _explain_errors(self, file: File) -> t.Iterator[None]:
        try:
            yield
        except http_session.LIBRARY_ERRORS as exc:
            if not http_session.is_certificate_error(exc):
                raise TorchExtensionError(
                    f"{file.name} cannot be put onto {self._url} from the control node: {root_cause(exc)}. If the control node"
                    f" has a proxy, except {self._host} from it in no_proxy. {_ADVICE}"
                ) from exc
            raise TorchExtensionError(
                f"The control node does not trust the certificate of {self._host}: {root_cause(exc)}. Name the file of your"
                f" site's CA in torch_extension_pull_ca_path. {_ADVICE}"
            ) from exc
