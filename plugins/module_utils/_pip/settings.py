# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The settings of a node's pip, as far as they say whether and where it keeps wheels. Read from files; pip is not run."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical

ALL_PACKAGES = ":all:"  # in only-binary and no-binary


def describe_cache(
    prefix: str, environ: t.Mapping[str, str], can_write: t.Callable[[str], bool], uid: int
) -> dict[str, t.Any]:
    """The cache of the pip of an environment: ``dir``, whether pip would use it (``usable``), and the ``reason`` if not.

    ``only_binary`` and ``no_binary`` are the packages (or ":all:") that these settings keep from it.

    :param prefix: folder of the environment
    :param environ: environment variables of the user who runs pip
    :param can_write: whether this user can write to a path
    :param uid: id of this user
    """
    sections = _read_sections(prefix, environ)
    settings = _effective_settings(sections)
    home = environ.get("HOME") or os.path.expanduser("~")
    default = os.path.join(environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "pip")
    folder = os.path.abspath(os.path.expanduser(settings.get("cache-dir") or default))
    no_cache = settings.get("no-cache-dir")
    reason = None
    if no_cache:  # even "false": pip's _handle_no_cache_dir keeps to what it once did by mistake
        reason = f"pip's cache is switched off by no-cache-dir = {no_cache}"
    elif not _is_trusted_by_pip(folder, can_write, uid):
        reason = (
            f"pip disables its cache because {folder} is not"
            f" {'owned by root' if uid == 0 else f'writable for user id {uid}'}"
        )
    return {"dir": folder, "usable": reason is None, "reason": reason, **_format_control(sections)}


def _format_control(sections: t.Sequence[t.Mapping[str, str]]) -> dict[str, list[str]]:
    """pip's FormatControl: unlike other settings these two add up over the sections."""
    packages: dict[str, set[str]] = {"only-binary": set(), "no-binary": set()}
    for section in sections:
        for setting, value in section.items():
            if setting not in packages or not value:
                continue
            selected, deselected = (
                packages[setting],
                packages["no-binary" if setting == "only-binary" else "only-binary"],
            )
            names = value.split(",")
            while ALL_PACKAGES in names:
                deselected.clear()
                selected.clear()
                selected.add(ALL_PACKAGES)
                del names[: names.index(ALL_PACKAGES) + 1]
                if ":none:" not in names:
                    names = []
            for name in names:
                if name == ":none:":
                    selected.clear()
                    continue
                deselected.discard(canonical(name))
                selected.add(canonical(name))
    return {setting.replace("-", "_"): sorted(names) for setting, names in packages.items()}


def _is_trusted_by_pip(folder: str, can_write: t.Callable[[str], bool], uid: int) -> bool:
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


def read_settings(prefix: str, environ: t.Mapping[str, str]) -> dict[str, str]:
    """pip's settings for `pip install`, by name."""
    return _effective_settings(_read_sections(prefix, environ))


def _effective_settings(sections: t.Iterable[t.Mapping[str, str]]) -> dict[str, str]:
    """The last value of each setting; pip passes over empty ones."""
    return {name: value for section in sections for name, value in section.items() if value}


def _read_sections(prefix: str, environ: t.Mapping[str, str]) -> list[dict[str, str]]:
    """pip's settings for pip install; the later source and section win (pip's documentation, "Configuration")."""
    config_file = environ.get("PIP_CONFIG_FILE")
    home = environ.get("HOME") or os.path.expanduser("~")
    config_home = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    files = [
        os.path.join(folder, "pip", "pip.conf") for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    ]
    files.append("/etc/pip.conf")
    if not (config_file and os.path.exists(config_file)):  # pip reads the chosen file instead of the user's
        files += [os.path.join(home, ".pip", "pip.conf"), os.path.join(config_home, "pip", "pip.conf")]
    files.append(os.path.join(prefix, "pip.conf"))
    if config_file == os.devnull:
        files = []
    elif config_file:
        files.append(config_file)
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in filter(os.path.exists, files):
        parsed = _parse_file(path)
        for section, values in sections.items():
            values.update((name.replace("_", "-"), value) for name, value in parsed.get(section, ()))
    variables = {
        name[4:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("PIP_")
    }
    return [*sections.values(), variables]


def _parse_file(path: str) -> dict[str, list[tuple[str, str]]]:
    """The settings of a file by section; none, if pip cannot read it."""
    import configparser  # slow, and many nodes have no such file

    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
        return {section: parser.items(section) for section in parser.sections()}
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}  # pip itself says so, and more fully, when it is run
