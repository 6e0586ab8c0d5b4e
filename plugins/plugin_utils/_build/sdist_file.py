# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""What an sdist, or the archive of a git tag, says of itself. Nothing of it is unpacked or run.

It is untrusted: how much of it is read, and is kept, is bounded whatever it says.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import sys
import typing as t
from email.parser import HeaderParser

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import archives

if sys.version_info >= (3, 11):
    import tomllib
else:
    with contextlib.suppress(ImportError):  # pip_index.py runs pip, and says so
        from pip._vendor import tomli as tomllib

_PYPROJECT, _PKG_INFO = "pyproject.toml", "PKG-INFO"
_LIMITS = {_PYPROJECT: 1 << 20, _PKG_INFO: 4 << 20}  # bytes; the latter has the README in it
_DEFAULT_REQUIRES = ("setuptools", "wheel")  # of an sdist without build-system (PEP 518)

# SOURCE_DATE_EPOCH ends up in a wheel, whose dates go from 1980 to 2107 (PKWARE's APPNOTE, 4.4.6)
_FIRST_EPOCH = calendar.timegm((1980, 1, 1, 0, 0, 0))
_LAST_EPOCH = calendar.timegm((2107, 12, 31, 23, 59, 58))


class SdistFacts(t.NamedTuple):
    """What an sdist says of itself."""

    build_requires: tuple[str, ...]  # PEP 508; what is untrusted in it has still to be read
    newest_mtime: int  # seconds since the epoch, of a file; a date that a wheel can have
    version: str | None  # of PKG-INFO, which a git archive has not
    requires_python: str | None  # likewise
    paths: frozenset[str]  # of all files and the folders above them, below the top of the sdist

    def has(self, path: str) -> bool:
        """Whether there is a file at a path, or a folder with files in it. A submodule in a git archive is an empty one."""
        return path in self.paths

    def missing(self, paths: t.Iterable[str]) -> tuple[str, ...]:
        """Those of the paths that it has not."""
        return tuple(path for path in paths if not self.has(path))


def read_sdist(path: str) -> SdistFacts:
    """Read an sdist: ``.tar.gz`` or ``.zip``.

    :raises TorchExtensionError: if it cannot be read, or was made to do harm
    """
    texts: dict[str, bytes] = {}
    paths: list[str] = []
    newest = _FIRST_EPOCH
    with _explain_errors(path), archives.open_any(path, archives.SDIST) as archive:
        for member in archive:
            if member.kind == archives.FOLDER:
                continue
            member_path = member.name.removeprefix("./")
            paths.append(member_path)
            newest = max(newest, int(member.modified))
            _top, _slash, inner = member_path.partition("/")
            if inner in _LIMITS:
                if member.kind != archives.FILE:
                    raise _UnsoundError(f"its {member_path[:200]!r} is no regular file")
                texts[inner] = archive.open(member).read_all(_LIMITS[inner])
        if len({file.partition("/")[0] for file in paths}) != 1 or not all("/" in file for file in paths):
            raise _UnsoundError("its files are not all in one folder")
        headers = HeaderParser().parsestr(texts.get(_PKG_INFO, b"").decode("utf-8", "replace"))
        return SdistFacts(
            _read_build_requires(texts.get(_PYPROJECT)),
            min(newest, _LAST_EPOCH),
            headers["Version"],
            headers["Requires-Python"],
            _with_folders(file.partition("/")[2] for file in paths),
        )


class _UnsoundError(Exception):
    """The archive is no sdist. The message goes on after the name of the file and a colon, without a full stop."""


def _with_folders(files: t.Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for path in files:
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return frozenset(found)


def _read_build_requires(pyproject: bytes | None) -> tuple[str, ...]:
    if pyproject is None:
        return _DEFAULT_REQUIRES
    build_system = tomllib.loads(pyproject.decode()).get("build-system")
    if build_system is None:
        return _DEFAULT_REQUIRES
    requires = build_system.get("requires") if isinstance(build_system, dict) else None
    if not isinstance(requires, list) or not all(isinstance(each, str) for each in requires):
        raise _UnsoundError(f"build-system.requires of its {_PYPROJECT} is no list of requirements")
    return tuple(requires)


@contextlib.contextmanager
def _explain_errors(path: str) -> t.Iterator[None]:
    try:
        yield
    except (_UnsoundError, archives.ArchiveError, ValueError, RecursionError) as exc:  # the last two are tomllib's
        reason = str(exc) or type(exc).__name__
        raise TorchExtensionError(
            f"{os.path.basename(path)} cannot be read as an sdist: {reason.splitlines()[0].rstrip('.')}. Put a sound one into a directory:"
            " of torch_extension_sources, or name another version in torch_extension_packages."
        ) from exc
