# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""pip's cache of wheels that it built itself: where it is, and where in it a wheel for an sdist lies."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import typing as t
from urllib.parse import urlsplit, urlunsplit

from ansible_collections.airgap.torch_extensions.plugins.module_utils._distributions import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._errors import TorchExtensionError

_ALL = ":all:"  # in only-binary and no-binary
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


def check_used(name: str, environment: t.Mapping[str, t.Any]) -> None:
    """Refuse what pip's settings keep it from taking out of its cache.

    :param name: of a package, normalised
    :raises TorchExtensionError: with the setting
    """
    cache, pip = environment["pip_cache"], environment["installers"]["pip"]
    # pip's FormatControl.get_allowed_formats: a name goes before :all:
    chosen = next(
        (
            setting
            for wanted in (name, _ALL)
            for setting in ("only-binary", "no-binary")
            if wanted in cache[setting.replace("-", "_")]
        ),
        None,
    )
    reason = None
    if not cache["usable"]:
        reason = cache["reason"]
    elif chosen == "only-binary":
        reason = f"only-binary in its settings forbids the sdist of {name}"
    elif chosen == "no-binary" and pip and _release(pip) < _FIRST_WITH_CACHE_DESPITE_NO_BINARY:
        reason = (
            f"no-binary in its settings covers {name}, and pip {pip} then does not look there, as pip >= 23.1 would"
        )
    if reason:
        raise TorchExtensionError(
            f"pip of this node would not use its cache: {reason}. Mend that, or use torch_extension_mode: install."
        )


def describe(
    prefix: str, environ: t.Mapping[str, str], can_write: t.Callable[[str], bool], uid: int
) -> dict[str, t.Any]:
    """The cache of the pip of an environment: ``dir``, whether pip would use it (``usable``), and the ``reason`` if not.

    ``only_binary`` and ``no_binary`` are the packages (or ":all:") that these settings keep from it.

    :param prefix: folder of the environment
    :param environ: environment variables of the user who runs pip
    :param can_write: whether this user can write to a path
    :param uid: id of this user
    """
    sections = _sections(prefix, environ)
    found = _effective(sections)
    home = environ.get("HOME") or os.path.expanduser("~")
    default = os.path.join(environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "pip")
    folder = os.path.abspath(os.path.expanduser(found.get("cache-dir") or default))
    no_cache = found.get("no-cache-dir")
    reason = None
    if no_cache:  # even "false": pip's _handle_no_cache_dir keeps to what it once did by mistake
        reason = f"pip's cache is switched off by no-cache-dir = {no_cache}"
    elif not _pip_trusts(folder, can_write, uid):
        reason = (
            f"pip disables its cache because {folder} is not"
            f" {'owned by root' if uid == 0 else f'writable for user id {uid}'}"
        )
    return {"dir": folder, "usable": reason is None, "reason": reason, **_formats(sections)}


def _formats(sections: t.Sequence[t.Mapping[str, str]]) -> dict[str, list[str]]:
    """pip's FormatControl: unlike other settings these two add up over the sections."""
    chosen: dict[str, set[str]] = {"only-binary": set(), "no-binary": set()}
    for section in sections:
        for setting, value in section.items():
            if setting not in chosen or not value:
                continue
            target, other = chosen[setting], chosen["no-binary" if setting == "only-binary" else "only-binary"]
            names = value.split(",")
            while _ALL in names:
                other.clear()
                target.clear()
                target.add(_ALL)
                del names[: names.index(_ALL) + 1]
                if ":none:" not in names:
                    names = []
            for name in names:
                if name == ":none:":
                    target.clear()
                    continue
                other.discard(canonical(name))
                target.add(canonical(name))
    return {setting.replace("-", "_"): sorted(names) for setting, names in chosen.items()}


def _pip_trusts(folder: str, can_write: t.Callable[[str], bool], uid: int) -> bool:
    """pip's own rule (check_path_owner in pip/_internal/utils/filesystem.py, pip 20 to 26)."""
    while not os.path.lexists(folder):
        parent = os.path.dirname(folder)
        if parent == folder:
            return False
        folder = parent
    if uid == 0:
        try:
            return os.stat(folder).st_uid == 0
        except OSError:
            return False
    return can_write(folder)


def settings(prefix: str, environ: t.Mapping[str, str]) -> dict[str, str]:
    """pip's settings for `pip install`, by name."""
    return _effective(_sections(prefix, environ))


def _effective(sections: t.Iterable[t.Mapping[str, str]]) -> dict[str, str]:
    """The last value of each setting; pip passes over empty ones."""
    return {name: value for section in sections for name, value in section.items() if value}


def _sections(prefix: str, environ: t.Mapping[str, str]) -> list[dict[str, str]]:
    """pip's settings for pip install; the later source and section win (pip's documentation, "Configuration")."""
    chosen = environ.get("PIP_CONFIG_FILE")
    home = environ.get("HOME") or os.path.expanduser("~")
    config_home = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    files = [
        os.path.join(folder, "pip", "pip.conf") for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    ]
    files.append("/etc/pip.conf")
    if not (chosen and os.path.exists(chosen)):  # pip reads the chosen file instead of the user's
        files += [os.path.join(home, ".pip", "pip.conf"), os.path.join(config_home, "pip", "pip.conf")]
    files.append(os.path.join(prefix, "pip.conf"))
    if chosen == os.devnull:
        files = []
    elif chosen:
        files.append(chosen)
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # pip itself says so, and more fully, when it is run
        for section, values in sections.items():
            if parser.has_section(section):
                values.update((name.replace("_", "-"), value) for name, value in parser.items(section))
    variables = {
        name[4:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("PIP_")
    }
    return [*sections.values(), variables]
