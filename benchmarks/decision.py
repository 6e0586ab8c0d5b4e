# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""decision.py [RUNS]: how long the control node takes to choose a wheel, with listings of real size.

The listings are those of tests/listings, on a server that answers as GitHub's API does, and were asked for before. What is
measured is one fork of the process, as Ansible makes one for each node: a requirement that pins a version; an open one for the
first node of a kind, which the project's own release cannot serve, so that a second listing is read; and for the next node of
that kind. It prints each with its milliseconds, and the size of the answer.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/unit/plugins"), str(ROOT / ".ansible/collections")]

from github_server import Api, asset, release  # noqa: E402
from servers import running_server  # noqa: E402

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._planning.decision import (  # noqa: E402
    Decision,
    Settings,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.catalogue import (  # noqa: E402
    SourceAccess,
)

COMMUNITY = "mjun0812/flash-attention-prebuild-wheels"
PINNED, OPEN = "flash-attn==2.8.3", "flash-attn"

#: PyTorch's own build of torch 2.8 serves the pin; nothing of the project is for 2.11 and CUDA 13
TORCH_OF = {PINNED: ("2.8.0+cu128", "12.8"), OPEN: ("2.11.0+cu130", "13.0")}
ENVIRONMENT = {
    "python": {"version": "3.12.3", "tag": "cp312", "abi": "cp312", "implementation": "cpython"},
    "platform": {"system": "linux", "machine": "x86_64", "libc": {"name": "glibc", "version": "2.39"}},
    "torch": {"version": "", "cuda": "", "hip": None, "cxx11_abi": True},
    **{key: {} for key in ("variables", "installers", "pip_cache", "distributions", "origins")},
}
#: who has uploaded an asset is a quarter of what GitHub answers of it
UPLOADER = {
    "login": "github-actions[bot]",
    "type": "Bot",
    **{f"{name}_url": f"https://api.github.com/users/github-actions%5Bbot%5D/{name}" for name in map(str, range(12))},
}


def names(place: str) -> list[str]:
    lines = (ROOT / f"tests/listings/{place}.txt").read_text().splitlines()
    return [line for line in lines if line.startswith("flash_attn-")]


def serve(api: Api, place: str, **repository: str) -> None:
    of_release: dict[str, list[dict]] = {}
    for name in names(place):
        tag = f"v{name.split('-')[1].partition('+')[0]}"
        file = asset(name, tag, uploader=UPLOADER, label="", download_count=7, node_id="RA_kwDOGq9JhM4P")
        of_release.setdefault(tag, []).append(file)
    releases = [release(*assets, tag=tag) for tag, assets in of_release.items()]
    api.serve_releases(releases, **repository)
    for one in releases:
        api.serve_release(one, **repository)


def decide(term: str, cache: str, api_url: str) -> dict:
    environment = copy.deepcopy(ENVIRONMENT)
    environment["torch"]["version"], environment["torch"]["cuda"] = TORCH_OF[term]
    access = SourceAccess(cache, github_api_url=api_url)
    return next(Decision(term, environment, Settings(access, ("release", "mjun0812"))).answers()).wheel


def in_a_fork(work: Callable[[], dict]) -> tuple[float, dict]:
    """The milliseconds that a process takes for its work, from its first instruction on."""
    reading, writing = os.pipe()
    if not os.fork():
        begun = time.perf_counter()
        answer = work()
        os.write(writing, json.dumps([1000 * (time.perf_counter() - begun), answer]).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        milliseconds, answer = json.load(pipe)
    os.wait()
    return milliseconds, answer


def measurements(runs: int) -> Iterator[tuple[str, float]]:
    with running_server() as server, tempfile.TemporaryDirectory() as cache:
        api = Api(server)
        serve(api, "release")
        serve(api, "mjun0812", repository=COMMUNITY)
        for term in (PINNED, OPEN):
            decide(term, cache, server.url)
        asked = len(server.requests)
        for _run in range(runs):
            shutil.rmtree(f"{cache}/answers")
            for line, term in (("pinned", PINNED), ("first", OPEN), ("next", OPEN)):
                milliseconds, answer = in_a_fork(lambda term=term: decide(term, cache, server.url))
                yield f"decision-{line}", milliseconds
                yield f"answer-{line}", len(json.dumps(answer))
        if len(server.requests) != asked:
            raise SystemExit(f"the listings were asked for again: {server.requests[asked:]}")


for name, figure in measurements(int(sys.argv[1]) if sys.argv[1:] else 5):
    print(name, round(figure, 1))
