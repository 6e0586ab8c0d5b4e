# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real servers that send whatever bytes a test wants, at any speed: http.server would not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Callable, Iterator

#: sends bytes; the event is set when the test is over
Answer = Callable[[socket.socket, threading.Event], None]


class RawServer:
    """Takes connections, and answers each request alike."""

    def __init__(self, listener: socket.socket) -> None:
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests = 0
        self.received = 0  # bytes


@contextlib.contextmanager
def raw_server(answer: Answer, tls: ssl.SSLContext | None = None, reads: bool = True) -> Iterator[RawServer]:
    """
    :param reads: whether the head of a request is read before it is answered
    """
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = tls.wrap_socket(connection, server_side=True) if tls else connection
            with line:
                head = b""
                while reads and b"\r\n\r\n" not in head:
                    piece = line.recv(4096)
                    if not piece:
                        return
                    head += piece
                server.requests += 1
                answer(line, over)

    def accept() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        server = RawServer(listener)
        if tls:
            server.url = f"https://localhost:{server.port}"
        threading.Thread(target=accept, daemon=True).start()
        yield server
        over.set()
        listener.shutdown(socket.SHUT_RDWR)


def send(content: bytes) -> Answer:
    """Sends this, and hangs up."""
    return lambda line, over: line.sendall(content)


def trickle(unit: bytes, head: bytes = b"", pause: float = 0.02) -> Answer:
    """Sends a head, and then byte by byte a unit, again and again."""

    def answer(line: socket.socket, over: threading.Event) -> None:
        line.sendall(head)
        while True:
            for byte in unit:
                line.sendall(bytes([byte]))
                if over.wait(pause):
                    return

    return answer


def flood(unit: bytes, head: bytes = b"") -> Answer:
    """Sends a head, and then a unit without an end, as fast as it is read."""

    def answer(line: socket.socket, over: threading.Event) -> None:
        line.sendall(head)
        piece = unit * (1 + (1 << 16) // len(unit))
        while not over.is_set():
            line.sendall(piece)

    return answer
