# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real HTTP server in a thread, which counts its requests and misbehaves where it is told to."""

from __future__ import annotations

import contextlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable, Iterator

Handler = BaseHTTPRequestHandler


class Server:
    """Answers each path with what was given for it, or with the files of a folder."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[str] = []  # paths, or whole URLs where it was used as a proxy
        self.headers: list[dict[str, str]] = []
        self.answers: dict[str, Callable[[Handler], None]] = {}
        self.folder: Path | None = None

    def give(self, path: str, body: bytes, status: int = 200, length: int | None = None) -> str:
        """Answer a path with a body; ``length`` is a lie about its size. Returns the URL."""

        def answer(handler: Handler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body) if length is None else length))
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[path] = answer
        return self.url + path

    def index(self, folder: Path) -> str:
        """Serve the files of a folder as a simple index, hashes included. Returns its URL."""
        from wheels import sha256

        self.folder = folder
        projects: dict[str, list[str]] = {}
        for file in sorted(folder.iterdir()):
            project = file.name.split("-")[0].replace("_", "-")
            projects.setdefault(project, []).append(
                f'<a href="/files/{file.name}#sha256={sha256(file)}">{file.name}</a>'
            )
            self.give(f"/files/{file.name}", file.read_bytes())
        for project, links in projects.items():
            self.page(f"/simple/{project}/", "<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")
        return f"{self.url}/simple/"

    def page(self, path: str, text: str, content_type: str = "text/html") -> None:
        """Answer a path with a page of an index."""

        def answer(handler: Handler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", content_type)
            handler.send_header("ETag", '"1"')  # so that pip would keep it
            handler.send_header("Content-Length", str(len(text)))
            handler.end_headers()
            handler.wfile.write(text.encode())

        self.answers[path] = answer

    def redirect(self, path: str, to: str) -> None:
        def answer(handler: Handler) -> None:
            handler.send_response(302)
            handler.send_header("Location", to)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.answers[path] = answer


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    class Requests(Handler):
        def do_GET(self) -> None:  # noqa: N802 (http.server's name)
            server.requests.append(self.path)
            server.headers.append(dict(self.headers))
            answer = server.answers.get(self.path)
            with contextlib.suppress(ConnectionError):
                if answer:
                    answer(self)
                else:
                    self.send_error(404)

        def log_message(self, *args) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request, client_address) -> None:
            """A client that does not trust the certificate hangs up: no news."""

    httpd = Quiet(("127.0.0.1", 0), Requests)
    server = Server(httpd.server_address[1])
    if tls:
        httpd.socket = tls.wrap_socket(httpd.socket, server_side=True)
        server.url = f"https://localhost:{server.port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
