# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""pip's cache of wheels that it built itself: where it is, and where in it a wheel for an sdist lies."""

from __future__ import annotations

import hashlib
import json
import os
import re
import typing as t
from urllib.parse import urlsplit, urlunsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._pip.settings import ALL_PACKAGES

_HASH_NAMES = "sha1|sha224|sha384|sha256|sha512|md5"  # pip._internal.models.link
# How pip finds a hash in a URL, by the first pip that does it so; it never minds whether the query or the fragment has it.
_HASH_RULES = (
    ((23, 1), rf"[#&]({_HASH_NAMES})=([^&]*)"),
    ((22, 3), rf"({_HASH_NAMES})=(.*)"),
    ((0, 0), rf"({_HASH_NAMES})=([a-f0-9]+)"),
)
_FIRST_WITH_INTERPRETER = (20, 0)  # in the key
_FIRST_WITH_CACHE_DESPITE_NO_BINARY = (23, 1)


def wheel_folder(sdist_url: str, tag: str, pip: str) -> str:
    """The folder, below pip's cache, in which pip looks for a wheel built from an sdist.

    :param sdist_url: file URL of the sdist, as pip resolves it from its index, ``#sha256=<hex>`` included if the index has it
    :param tag: PEP 425 Python tag of the interpreter, e.g. "cp311"
    :param pip: version of pip
    :returns: e.g. "wheels/0b/b5/fb/4eb31ffcf262c7b78dd3ae076329e02560008d5bb11c6c6f6d"
    :raises TorchExtensionError: if this is no URL of a file

    The rule is that of pip's ``SimpleWheelCache`` (pip 9 to 26.3; pip/_internal/cache.py): the SHA-224, split 2/2/2/rest, of
    URL without fragment and hash, and since pip 20.0 of a JSON object that has the subdirectory and the interpreter as well.
    """
    url = _without_fragment(sdist_url)
    if not re.match(r"(https?|file)://[^/]*/.*[^/]$", url):
        raise TorchExtensionError(
            f"sdist_url is {sdist_url!r}, which is no URL of a file. Give the address of the sdist on the node's index,"
            " as in https://pypi.tuna.tsinghua.edu.cn/packages/…/flash_attn-2.5.3.tar.gz#sha256=…."
        )
    interpreter = re.match(r"([a-z]+)(\d+)$", tag)
    if not interpreter:
        raise TorchExtensionError(f"{tag!r} is no Python tag such as cp311.")
    digest = re.search(next(rule for first, rule in _HASH_RULES if _release(pip) >= first), sdist_url)
    if _release(pip) < _FIRST_WITH_INTERPRETER:
        text = f"{url}#{digest.group(1)}={digest.group(2)}" if digest else url
    else:
        key = {"url": url, "interpreter_name": interpreter.group(1), "interpreter_version": interpreter.group(2)}
        if digest:
            key[digest.group(1)] = digest.group(2)
        subdirectory = re.search(r"[#&]subdirectory=([^&]+)", sdist_url)
        if subdirectory:
            key["subdirectory"] = subdirectory.group(1)
        text = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    name = hashlib.sha224(text.encode("utf-8")).hexdigest()
    return os.path.join("wheels", name[:2], name[2:4], name[4:6], name[6:])


def _without_fragment(url: str) -> str:
    try:
        return urlunsplit(urlsplit(url)._replace(fragment=""))
    except ValueError:
        return ""


def _release(pip: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", pip)[:2]))


def wheel_path(sdist_url: str, filename: str, environment: t.Mapping[str, t.Any]) -> str:
    """Where on a node its pip looks for the wheel, absolute.

    :raises TorchExtensionError: if the node's pip is absent, or if its cache folder is not known
    """
    pip = environment["installers"]["pip"]
    if pip is None:
        raise TorchExtensionError(
            f"{environment['python']['executable']} has no pip, so there is no wheel cache to fill. Install pip there,"
            " or use torch_extension_mode: install."
        )
    folder = environment["pip_cache"]["dir"]
    if folder is None:
        raise TorchExtensionError(
            "The folder of pip's cache on this node is not known. Set cache-dir in its pip.conf, or use"
            " torch_extension_mode: install."
        )
    return os.path.join(folder, wheel_folder(sdist_url, environment["python"]["tag"], pip), filename)


def check_cache_usable(name: str, environment: t.Mapping[str, t.Any]) -> None:
    """Refuse a package for which pip's settings keep pip from using its cache.

    :param name: of a package, normalised
    :raises TorchExtensionError: with the setting
    """
    cache, pip = environment["pip_cache"], environment["installers"]["pip"]
    # pip's FormatControl.get_allowed_formats: a name goes before :all:
    setting = next(
        (
            candidate
            for package in (name, ALL_PACKAGES)
            for candidate in ("only-binary", "no-binary")
            if package in cache[candidate.replace("-", "_")]
        ),
        None,
    )
    reason = None
    if not cache["usable"]:
        reason = cache["reason"]
    elif setting == "only-binary":
        reason = f"only-binary in its settings forbids the sdist of {name}"
    elif setting == "no-binary" and pip and _release(pip) < _FIRST_WITH_CACHE_DESPITE_NO_BINARY:
        reason = (
            f"no-binary in its settings covers {name}, and pip {pip} then does not look there, as pip >= 23.1 would"
        )
    if reason:
        raise TorchExtensionError(
            f"pip of this node would not use its cache: {reason}. Mend that, or use torch_extension_mode: install."
        )
