# SPDX-License-Identifier: GPL-3.0-or-later
"""faulty.py PORT ORIGIN FILE: stands between nginx and its file host at port ORIGIN, and spoils the answers as FILE says:

cut=BYTES    the connection ends after that many bytes of each answer
stall=BYTES  nothing more comes after that many bytes of each answer
slow=RATE    bytes a second
corrupt      one byte is another one
html         a captive portal's page

What an answer would be, with Range and If-Range, is nginx's business.
"""

import http.client
import http.server
import pathlib
import sys

port, origin = map(int, sys.argv[1:3])
file = pathlib.Path(sys.argv[3])

PORTAL = b"<!DOCTYPE html>\n<title>Welcome</title>\n<p>Please sign in to use this network.</p>\n"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        fault, _equals, value = file.read_text().strip().partition("=")
        if fault == "html":
            return self.answer(200, [("Content-Type", "text/html"), ("Content-Length", str(len(PORTAL)))], PORTAL)

        connection = http.client.HTTPConnection("127.0.0.1", origin)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        headers = [header for header in answer.getheaders() if header[0] not in ("Connection", "Server", "Date")]
        body = answer.read()
        if fault == "slow":
            return self.answer(answer.status, [*headers, ("X-Accel-Limit-Rate", value)], body)
        # or else nginx keeps what little there is, until more comes
        headers.append(("X-Accel-Buffering", "no"))
        if fault in ("cut", "stall"):
            body = body[: int(value)]
        if fault == "corrupt" and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        self.answer(answer.status, headers, body)
        if fault == "stall":
            self.rfile.read()  # ends when the client has gone
        return None

    do_HEAD = do_GET  # noqa: N815

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
