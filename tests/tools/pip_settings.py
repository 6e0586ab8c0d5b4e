"""Hands pip's own settings, wherever they come from, to the programs that do not read them all.

pip_settings.py conf: as a pip.conf, for a pip that is started without the environment
pip_settings.py uv:   as the variables of uv, for `eval` in a shell; those that are already set win
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys

UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}


def settings() -> dict[str, list[str]]:
    listed = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    found = {}
    for line in listed.splitlines():
        section_key, value = line.split("=", 1)
        section, key = section_key.rsplit(".", 1)
        if section in ("global", "install", ":env:"):  # in pip's order: the later one wins
            found[key] = ast.literal_eval(value).split()
    return found


def usable(place: str) -> bool:
    """Pip passes over a local folder that is not there, uv does not."""
    path = place.removeprefix("file://")
    return "://" in path or os.path.exists(path)


if sys.argv[1] == "conf":
    ours = {**settings(), "quiet": ["2"], "compile": ["false"]}  # most of what is installed is never imported
    print("[global]", *(f"{key} = {' '.join(values)}" for key, values in ours.items()), sep="\n")
else:
    for key, values in settings().items():
        values = [value for value in values if usable(value)]
        if values and key in UV and UV[key] not in os.environ:
            separator = "," if key == "find-links" else " "
            print(f"export {UV[key]}={shlex.quote(separator.join(values))}")
    print("export UV_INDEX_STRATEGY=unsafe-best-match")  # all indexes count alike, as with pip
