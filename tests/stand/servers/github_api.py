# SPDX-License-Identifier: GPL-3.0-or-later
"""github_api.py PORT STATE: the stand's api.github.com, for nginx to ask. Answers from STATE/wan/api, which publish.py
writes, in the mode that STATE/api-mode names:

normal   60 requests an hour and client, 5000 with STATE/token; the hour begins anew with each `stand api`
limited  the hour's requests without a token are used up
down     503
"""

import collections
import hashlib
import http.server
import json
import math
import pathlib
import re
import sys
import time
import urllib.parse

state = pathlib.Path(sys.argv[2])
token = (state / "token").read_text().strip()

DOCS = "https://docs.github.com/rest"
RELEASES = re.compile(r"/(repos/[\w.-]+/[\w.-]+|repositories/[0-9]+)/releases(?:/tags/(?P<tag>[^/]+))?")
HOUR = 3600


class Budget:
    """Who has asked how often in this hour."""

    def __init__(self):
        self.mode = self.changed = None
        self.begin(time.time())

    def begin(self, now):
        self.began = now
        self.used = collections.Counter()

    def refresh(self):
        file = state / "api-mode"
        changed, now = file.stat().st_mtime_ns, time.time()
        if changed != self.changed or now >= self.began + HOUR:
            self.mode, self.changed = file.read_text().strip(), changed
            self.begin(now)


budget = Budget()


def whole(query, name, default, most):
    value = dict(query).get(name, "")
    return min(int(value), most) if value.isdecimal() and int(value) else default


def page_of(releases, repository_id, query):
    """A page of the list, and the Link header that leads to the others."""
    size, page = whole(query, "per_page", 30, 100), whole(query, "page", 1, 10**6)
    last = max(1, math.ceil(len(releases) / size))
    pages = {"prev": min(page - 1, last), "next": page + 1, "last": last, "first": 1}
    if page <= 1:
        del pages["prev"], pages["first"]
    if page >= last:
        del pages["next"], pages["last"]
    kept = [item for item in query if item[0] != "page"]
    address = f"https://api.github.com/repositories/{repository_id}/releases"
    link = ", ".join(
        f'<{address}?{urllib.parse.urlencode([*kept, ("page", other)])}>; rel="{name}"' for name, other in pages.items()
    )
    return releases[(page - 1) * size : page * size], link


NOT_FOUND = 404, {"message": "Not Found", "documentation_url": DOCS + "/releases/releases", "status": "404"}, ""


def look_up(url):
    """Status, value and Link header."""
    path, _mark, query = url.partition("?")
    asked = RELEASES.fullmatch(urllib.parse.unquote(path))
    file = asked and state / f"wan/api/{asked[1]}.json"
    if not file or not file.exists():
        return NOT_FOUND
    repository = json.loads(file.read_text())
    if not asked["tag"]:
        return 200, *page_of(repository["releases"], repository["id"], urllib.parse.parse_qsl(query))
    found = [release for release in repository["releases"] if release["tag_name"] == asked["tag"]]
    return (200, found[0], "") if found else NOT_FOUND


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        budget.refresh()
        if budget.mode == "down":
            return self.answer(503, b"<!DOCTYPE html>\n<title>Unicorn! &middot; GitHub</title>\n", "text/html")
        credentials = self.headers["Authorization"]
        if credentials and credentials not in (f"Bearer {token}", f"token {token}"):
            return self.answer_json(401, {"message": "Bad credentials", "documentation_url": DOCS, "status": "401"})

        account, limit = ("token", 5000) if credentials else (self.headers["X-Real-IP"], 60)
        if budget.mode == "limited" and not credentials:
            budget.used[account] = limit
        if budget.used[account] >= limit:
            return self.answer_json(403, rate_limit_exceeded(account), self.rate(account, limit))

        status, value, link = look_up(self.path)
        body = json.dumps(value).encode()
        etag = f'W/"{hashlib.sha256(body + link.encode()).hexdigest()}"'
        known = etag.removeprefix("W/") in self.headers.get("If-None-Match", "") and status == 200
        # what has not changed is free, but only with a token
        budget.used[account] += 0 if known and credentials else 1
        headers = self.rate(account, limit)
        if status == 200:
            headers |= {"etag": etag, "cache-control": "public, max-age=60, s-maxage=60"}
        if link:
            headers["link"] = link
        if known:
            return self.answer(304, b"", None, headers)
        return self.answer_json(status, value, headers)

    do_HEAD = do_GET  # noqa: N815

    def rate(self, account, limit):
        used = budget.used[account]
        return {
            "x-ratelimit-limit": limit,
            "x-ratelimit-remaining": limit - used,
            "x-ratelimit-reset": int(budget.began + HOUR),
            "x-ratelimit-used": used,
            "x-ratelimit-resource": "core",
        }

    def answer_json(self, status, value, headers=None):
        self.answer(status, json.dumps(value).encode(), "application/json; charset=utf-8", headers)

    def answer(self, status, body, content_type, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, str(value))
        if content_type:
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def rate_limit_exceeded(account):
    whose = "user ID 1" if account == "token" else account
    return {
        "message": f"API rate limit exceeded for {whose}. (But here's the good news: Authenticated requests get a "
        "higher rate limit. Check out the documentation for more details.)",
        "documentation_url": DOCS + "/overview/resources-in-the-rest-api#rate-limiting",
    }


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
