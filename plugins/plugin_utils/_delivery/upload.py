# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""Put files onto the server inside the gap that the nodes fetch them from (WebDAV's PUT, RFC 9110, 9.3.4)."""

from __future__ import annotations

import contextlib
import typing as t
from urllib.parse import quote, urlsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._delivery.streaming import File
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import http
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.settings import root_cause

try:
    import requests
    from requests import Session
except ImportError:  # http.py says so
    Session = object

_SECONDS = (30, 300)  # to connect; between two pieces, and until a server has put away what it was sent
_ELSE = "Nothing was changed on the nodes. torch_extension_delivery has other ways, such as copy."


class _Session(Session):
    """Sends credentials over TLS alone, wherever a server redirects."""

    def rebuild_auth(self, prepared_request: t.Any, response: t.Any) -> None:
        super().rebuild_auth(prepared_request, response)
        if urlsplit(prepared_request.url).scheme != "https":
            prepared_request.headers.pop("Authorization", None)


class Uploader:
    """Puts files into one folder of a server."""

    def __init__(self, url: str, ca_path: str | None) -> None:
        """
        :param url: of the folder, checked before
        :param ca_path: a file of CA certificates (PEM) to trust instead of the usual ones
        :raises TorchExtensionError: if a library is missing
        """
        http.check_requests()
        self._url, self._host = url.rstrip("/"), urlsplit(url).hostname
        self._session = _Session()
        self._session.headers["Accept-Encoding"] = "identity"  # or there may be no Content-Length
        self._verify = ca_path or True
        if urlsplit(url).scheme != "https":
            self._session.auth = _nobody  # credentials of ~/.netrc go over TLS alone

    def upload(self, file: File) -> bool:
        """Put a file there, if nobody has done so in between.

        :returns: whether it was sent
        :raises TorchExtensionError: if that does not work, or another file has its name
        """
        url = f"{self._url}/{quote(file.name, safe='')}"
        with self._explained(file):
            found = self._ask("HEAD", url)
            size = found.headers.get("Content-Length", "")
            if found.status_code == 200 and size.isdigit() and int(size) == file.size:
                return False
            if found.status_code == 200 and size.isdigit():
                raise TorchExtensionError(
                    f"{url} has {size} bytes, wanted are {file.size}: it is another file, and stays. Remove it from that server,"
                    f" or name another folder in torch_extension_pull_url. {_ELSE}"
                )
            if found.status_code == 401:  # before all is sent
                raise self._refused(file, found)
            with open(file.path, "rb") as data:
                told = {"X-Checksum-Sha256": file.sha256}  # which Artifactory holds against what came
                answer = self._ask("PUT", url, data=data, headers=told)
        if answer.status_code not in (200, 201, 202, 204):
            raise self._refused(file, answer)
        return True

    def _ask(self, method: str, url: str, **more: t.Any) -> requests.Response:
        return self._session.request(
            method, url, timeout=_SECONDS, verify=self._verify, allow_redirects=method == "HEAD", **more
        )

    def _refused(self, file: File, answer: requests.Response) -> TorchExtensionError:
        meaning = {
            401: f"It wants credentials for {self._host} in ~/.netrc of the control node; they are sent over https alone.",
            403: f"It wants other credentials for {self._host} in ~/.netrc of the control node, or takes no files there.",
            404: "There is no such folder, and it does not make it.",
            405: "It takes no files there.",
            409: "There is no such folder, and it does not make it.",
            413: "It takes no files of that size.",
            507: "It has no room.",
        }
        status = f"{answer.status_code} {answer.reason or ''}".strip()
        leads = urlsplit(answer.headers.get("Location", ""))
        if answer.is_redirect and leads.hostname:  # without its path, which may be signed
            meaning[answer.status_code] = f"It leads to {leads.scheme}://{leads.hostname}, where no upload follows it."
        return TorchExtensionError(
            f"{self._url} does not take {file.name} from the control node ({status})."
            f" {meaning.get(answer.status_code, 'Look at its log; its disk may be full.')} Put the file there yourself (it is"
            f" {file.path} on the control node), or name another folder in torch_extension_pull_url. {_ELSE}"
        )

    @contextlib.contextmanager
    def _explained(self, file: File) -> t.Iterator[None]:
        try:
            yield
        except (requests.exceptions.RequestException, OSError) as exc:
            if not http.is_certificate_error(exc):
                raise TorchExtensionError(
                    f"{file.name} cannot be put onto {self._url} from the control node: {root_cause(exc)}. If the control node"
                    f" has a proxy, except {self._host} from it in no_proxy. {_ELSE}"
                ) from exc
            raise TorchExtensionError(
                f"The control node does not trust the certificate of {self._host}: {root_cause(exc)}. Name the file of your"
                f" site's CA in torch_extension_pull_ca_path. {_ELSE}"
            ) from exc


def _nobody(request: t.Any) -> t.Any:
    """For requests, which would otherwise look for credentials by itself."""
    return request
