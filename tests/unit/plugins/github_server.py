# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GitHub's API, as far as releases go, on a real HTTP server."""

from __future__ import annotations

import json
import time

REPOSITORY = "Dao-AILab/flash-attention"
NAME = "flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
SHA256 = "24" * 32


def asset(name=NAME, tag="v2.8.3", **changed):
    url = f"https://github.example/{REPOSITORY}/releases/download/{tag}/{name.replace('+', '%2B')}"
    digest = f"sha256:{SHA256}"
    return {"name": name, "browser_download_url": url, "size": 7, "digest": digest, "state": "uploaded", **changed}


def release(*assets, tag="v2.8.3", published="2025-08-14T00:00:00Z", draft=False):
    return {"tag_name": tag, "published_at": published, "draft": draft, "prerelease": False, "assets": list(assets)}


class Api:
    """Answers as GitHub's API does, with pages, Link, weak ETags, rate limits and tokens."""

    def __init__(self, server):
        self.server = server
        self.requests = server.requests
        self.limit_headers = {}  # of a rate limit; "status" among them replaces 403
        self.token = None  # the one that each request must have
        self.status = 200
        self.body = None  # instead of the JSON
        self.delay = 0.0  # seconds
        self.statuses = []  # of all answers

    def serve_release(self, release, repository=REPOSITORY):
        """Serve one release by its tag."""
        self.serve(f"/repos/{repository}/releases/tags/{release['tag_name']}", release)

    def serve_releases(self, releases, page_size=30, repository=REPOSITORY):
        """Serve pages of releases. Returns the path of the first one."""
        first = f"/repos/{repository}/releases?per_page=30"
        pages = [releases[start : start + page_size] for start in range(0, len(releases), page_size)] or [[]]
        for number, page in enumerate(pages, 1):
            next_url = f"{self.server.url}{first}&page={number + 1}" if number < len(pages) else None
            self.serve(first if number == 1 else f"{first}&page={number}", page, next_url)
        return first

    def serve(self, path, answer, next_url=None):
        """Serve JSON; ``next_url`` is the URL of the next page."""

        def respond(handler):
            time.sleep(self.delay)
            body = json.dumps(answer).encode() if self.body is None else self.body
            etag = f'W/"{hash(body)}"'
            authorization = handler.headers.get("Authorization")
            status, headers = self.status, dict(self.limit_headers)
            if self.limit_headers:
                status = int(headers.pop("status", 403))
            elif self.token and authorization != f"Bearer {self.token}":
                status = 401
            elif status == 200 and handler.headers.get("If-None-Match") == etag:
                status, body = 304, b""
            self.statuses.append(status)
            handler.send_response(status)
            if status in (200, 304):
                headers |= {
                    "ETag": etag,
                    **({"Link": f'<{next_url}>; rel="next", <x>; rel="last"'} if next_url else {}),
                }
            for name, value in {"Content-Type": "application/json; charset=utf-8", **headers}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.server.handlers[path] = respond
