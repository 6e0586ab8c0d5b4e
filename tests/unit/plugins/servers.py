# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real HTTP servers and proxies in threads. They record requests, and fail where a test wants them to."""

from __future__ import annotations

import contextlib
import datetime
import io
import ipaddress
import re
import socket
import ssl
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable, Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Handler = BaseHTTPRequestHandler


class Server:
    """Answers each path with what a test serves there."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[str] = []  # paths, or whole URLs where it was used as a proxy
        self.headers: list[dict[str, str]] = []
        self.methods: list[str] = []
        self.handlers: dict[str, Callable[[Handler], None]] = {}  # of GET and HEAD, by path
        self.upload_handlers: dict[str, Callable[[Handler], None]] = {}  # of PUT, by folder
        self.authorization: str | None = None  # the header that each request must have
        self.sent_sizes: list[int] = []  # bytes of each body of serve_file(), in the order in which they ended

    def serve_file(
        self,
        path: str,
        body: bytes,
        etag: str | None = '"1"',
        cuts: Sequence[int] = (),
        pause: float = 0,
        headers: dict[str, str] | None = None,
    ) -> str:
        """Serve a file as web servers do, with ranges and If-Range (RFC 9110). Returns the URL.

        :param cuts: bytes after which the connections of the first answers are cut
        :param pause: seconds before each further eighth of the file
        :param headers: in addition to the usual ones, or in their place
        """
        remaining_cuts = list(cuts)

        def answer(handler: Handler) -> None:
            requested = re.fullmatch(r"bytes=(\d*)-(\d*)", handler.headers.get("Range", ""))
            is_part = requested and handler.headers.get("If-Range") in (
                None,
                etag,
                (headers or {}).get("Last-Modified"),
            )
            begins, ends = _range(requested[1], requested[2], len(body)) if requested and is_part else (0, len(body))
            limit = remaining_cuts.pop(0) if remaining_cuts else len(body)
            handler.send_response_only(206 if is_part else 200)
            usual = {"Content-Length": str(ends - begins)}
            usual.update({"Content-Range": f"bytes {begins}-{ends - 1}/{len(body)}"} if is_part else {})
            usual.update({"ETag": etag} if etag else {})
            for name, value in {**usual, **(headers or {})}.items():
                handler.send_header(name, value)
            handler.end_headers()
            piece = len(body) // 8 + 1
            sent = 0
            with contextlib.suppress(OSError):
                for start in range(begins, min(begins + limit, ends), piece):
                    data = body[start : min(start + piece, begins + limit, ends)]
                    handler.wfile.write(data)
                    sent += len(data)
                    time.sleep(pause)
            self.sent_sizes.append(sent)

        self.handlers[path] = answer
        return self.url + path

    def serve_body(self, path: str, body: bytes, status: int = 200, length: int | None = None) -> str:
        """Serve a body, with a false Content-Length if ``length`` is given. Returns the URL."""

        def answer(handler: Handler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body) if length is None else length))
            handler.end_headers()
            handler.wfile.write(body)

        self.handlers[path] = answer
        return self.url + path

    def serve_index(self, folder: Path) -> str:
        """Serve the files of a folder as a simple index with hashes. Returns its URL."""
        from wheels import sha256

        projects: dict[str, list[str]] = {}
        for file in sorted(folder.iterdir()):
            project = file.name.split("-")[0].replace("_", "-")
            projects.setdefault(project, []).append(
                f'<a href="/files/{file.name}#sha256={sha256(file)}">{file.name}</a>'
            )
            self.serve_body(f"/files/{file.name}", file.read_bytes())
        for project, links in projects.items():
            self.serve_page(f"/simple/{project}/", "<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")
        return f"{self.url}/simple/"

    def serve_page(self, path: str, text: str, content_type: str = "text/html") -> None:
        """Serve a page of an index."""

        def answer(handler: Handler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", content_type)
            handler.send_header("ETag", '"1"')  # so that pip would cache it
            handler.send_header("Content-Length", str(len(text)))
            handler.end_headers()
            handler.wfile.write(text.encode())

        self.handlers[path] = answer

    def accept_uploads(self, folder: str, status: int = 201, limit: int | None = None, reads: bool = True) -> str:
        """Let files be PUT into a folder, as with WebDAV, and be read from there. Returns the folder's URL.

        :param status: of the answer; from 300 on nothing is stored
        :param limit: bytes after which the connection is cut
        :param reads: whether a refused body is read, so that the client sees the answer
        """

        def answer(handler: Handler) -> None:
            length = int(handler.headers["Content-Length"])
            if limit is not None:
                handler.rfile.read(limit)
                handler.close_connection = True
                return
            body = handler.rfile.read(length) if reads or status < 300 else b""
            if status < 300:
                self.serve_file(handler.path, body)
            handler.send_response(status)
            if status in (301, 307, 308):
                handler.send_header("Location", "https://elsewhere.example/signed?secret")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.upload_handlers[folder] = answer
        return self.url + folder

    def read(self, path: str) -> bytes:
        """The body at a path."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return answer.read()

    def request_lines(self) -> list[str]:
        """The method and path of each request."""
        return [f"{method} {path}" for method, path in zip(self.methods, self.requests, strict=True)]

    def redirect(self, path: str, to: str) -> None:
        """Redirect a path to a URL."""

        def answer(handler: Handler) -> None:
            handler.send_response(302)
            handler.send_header("Location", to)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.handlers[path] = answer


def _range(first: str, last: str, size: int) -> tuple[int, int]:
    """Where a range begins and ends (RFC 9110, 14.1.2)."""
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


@contextlib.contextmanager
def running_proxy(
    authorization: str | None = None, cuts: Sequence[int] = (), status: int | None = None
) -> Iterator[Server]:
    """A proxy for HTTPS.

    :param authorization: the header that it requires
    :param status: with which it refuses all
    :param cuts: bytes after which the answers of the first connections are cut
    """
    remaining_cuts = list(cuts)

    class Connections(Handler):
        def do_CONNECT(self) -> None:  # noqa: N802 (http.server's name)
            proxy.requests.append(self.path)
            if authorization and self.headers.get("Proxy-Authorization") != authorization:
                self.send_error(407)
                return
            if status:
                self.send_error(status)
                return
            host, port = self.path.rsplit(":", 1)
            limit = remaining_cuts.pop(0) if remaining_cuts else None
            try:
                connection = socket.create_connection((host, int(port)))
            except OSError:
                self.send_error(502)
                return
            with connection as upstream:
                self.send_response_only(200)
                self.end_headers()
                threading.Thread(target=relay, args=(self.connection, upstream), daemon=True).start()
                relay(upstream, self.connection, limit)

        def log_message(self, *args) -> None:
            """Say nothing."""

    def relay(source: socket.socket, target: socket.socket, limit: int | None = None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(limit if limit is not None and limit < 4096 else 4096):
                target.sendall(data)
                if limit is not None:
                    limit -= len(data)
                    if limit == 0:
                        break
            target.shutdown(socket.SHUT_RDWR)

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Connections)
    proxy = Server(httpd.server_address[1])
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for localhost. Returns the file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "ca.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def tls_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@contextlib.contextmanager
def running_server(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server, with TLS if there is a context for it."""

    class Requests(Handler):
        def do_GET(self) -> None:  # noqa: N802 (http.server's name)
            self.answer(server.handlers.get(self.path), 404)

        do_HEAD = do_GET  # noqa: N815 (http.server's name)

        def do_PUT(self) -> None:  # noqa: N802 (http.server's name)
            self.answer(server.upload_handlers.get(self.path.rpartition("/")[0] + "/"), 405)

        def answer(self, answer: Callable[[Handler], None] | None, missing_status: int) -> None:
            server.methods.append(self.command)
            server.requests.append(self.path)
            server.headers.append(dict(self.headers))
            with contextlib.suppress(ConnectionError):
                if server.authorization and self.headers.get("Authorization") != server.authorization:
                    self.send_error(401)
                elif answer:
                    answer(self)
                else:
                    self.send_error(missing_status)

        def end_headers(self) -> None:
            super().end_headers()
            if self.command == "HEAD":
                self.wfile = io.BytesIO()  # which nobody reads

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
