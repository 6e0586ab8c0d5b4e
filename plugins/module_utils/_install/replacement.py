# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Put unpacked distributions in the place of installed ones by renames, or remove these, and clear away what killed runs have left.

pip removes the old version before it unpacks the new one, which takes seconds: a run that is killed then leaves neither. Here
the new one is whole, and on the disk, in a scratch folder beside the packages before the first rename. A rename is atomic;
what has to be renamed is recorded before (``_PLAN``), so that the next run can finish it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import threading
import typing as t
from urllib.parse import quote

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files import atomic, temporary
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import parse_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import records
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.damage import has_sound_record
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.distributions import (
    Distribution,
    find_all_records,
    find_installed,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.leftovers import find_leftovers
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.ownership import (
    give_to_owner,
    is_of_another_user,
)

_NEW, _OLD, _PLAN = "new", "old", "plan.json"
_PLAN_FORMAT = 1
_MAX_PLAN = 4 << 20  # bytes; one that removes 10,000 files, which is rare, has 600 KB
_MAX_FILES = 3  # that a message names
_COMPILED = "__pycache__"


class Exchange(t.NamedTuple):
    """Paths in the folder of packages: what goes, and names of what comes, whether it replaces something or not."""

    goes: list[str]
    comes: list[str]


class RemovalPlan(t.NamedTuple):
    """What to do so that distributions are not installed any more."""

    exchange: Exchange  # in which nothing comes
    stays: dict[str, str]  # why, by the path of what stays though it lies where files go


@contextlib.contextmanager
def scratch_folder(site_packages: str) -> t.Iterator[str]:
    """Make a scratch folder beside the packages, and yield the folder in it to unpack new distributions into.

    There the user may write, there is room for what will be installed, and shared objects may be loaded (a home or /tmp may be mounted
    noexec). The dot in its name keeps it from being importable.
    """
    with temporary.temporary_folder(site_packages) as scratch:
        for name in (_NEW, _OLD):
            os.mkdir(os.path.join(scratch, name))
        yield os.path.join(scratch, _NEW)


def plan_exchange(new: str, site_packages: str) -> Exchange | None:
    """What to exchange so that the distributions of a folder are installed; None where that takes more than renames.

    That is where files belong outside of the folder (scripts), or where a folder that would go holds files of another
    distribution, or files that nobody has recorded.

    :param new: the folder that :func:`scratch_folder` yields
    :raises TorchExtensionError: if files of another distribution would be overwritten or go
    """
    arriving = find_installed([new])
    installed = find_installed([site_packages])
    leaving = {name: distribution for name, distribution in installed.items() if name in arriving}
    coming = _recorded_files(arriving.values())
    check_owners(coming, site_packages, list(arriving))
    if not all(distribution.is_complete or _is_dist_info(distribution) for distribution in leaving.values()):
        return None
    comes = _top_level(coming)
    ours = _recorded_files(distribution for distribution in leaving.values() if distribution.is_complete)
    for distribution in find_unrecorded(leaving.values()):  # what comes tells what its RECORD does not
        ours |= coming.union(_files_below(site_packages, os.path.basename(distribution.path)))
    goes = _top_level(ours)
    if comes is None or goes is None:
        return None
    touched = {name for name in (*comes, *goes) if os.path.lexists(os.path.join(site_packages, name))}
    if touched:  # to read all records takes long
        others = _recorded_files(
            distribution
            for name, distribution in installed.items()
            if name not in arriving and distribution.is_complete
        )
        if touched & {path.split("/", 1)[0] for path in others}:
            return None
    existing = (path for name in touched for path in _files_below(site_packages, name))
    if any(path not in ours and not path.endswith(".pyc") for path in existing):
        return None
    # the metadata last: where it exists, the distribution is whole
    order = sorted(comes, key=lambda name: (name.endswith(".dist-info"), name))
    return Exchange(sorted(touched - comes), order)


def find_unrecorded(found: t.Iterable[Distribution]) -> list[Distribution]:
    """The distributions whose RECORD is gone or damaged, of which pip and uv do not know what to remove."""
    return [each for each in found if _is_dist_info(each) and not has_sound_record(each)]


def _is_dist_info(distribution: Distribution) -> bool:
    return distribution.path.endswith(".dist-info")


def plan_removal(leaving: t.Collection[Distribution], site_packages: str, prefix: str) -> RemovalPlan:
    """What has to go so that distributions are not installed any more: what they have recorded, but nobody else.

    :param leaving: distributions of the folder, each with a RECORD
    :param prefix: folder of the environment, outside of which nothing goes
    """
    metadata = {os.path.basename(distribution.path) for distribution in leaving}
    recorded = {os.path.relpath(os.path.join(site_packages, path), site_packages) for path in _recorded_files(leaving)}
    recorded = {path for path in recorded if path.split("/", 1)[0] not in metadata and not _is_in_cache(path)}
    stays = {
        path: "it is outside of the environment" for path in recorded if not _is_below(path, site_packages, prefix)
    }
    if recorded:  # to read all records takes long
        names = [distribution.name for distribution in leaving]
        for owner, files in records.find_owners(recorded, site_packages, names).items():
            stays.update((path, f"{owner} has it, too") for path in files)
    goes = {path for path in recorded - set(stays) if os.path.lexists(os.path.join(site_packages, path))}
    for name in _list_folders(goes):
        below = set(_files_below(site_packages, name))
        compiled = {path for path in below - recorded if _is_compiled_from(path, goes, site_packages)}
        others = {path for path in below - recorded - compiled if not _is_in_cache(path)}
        stays.update((path, "no distribution has recorded it") for path in others)
        if below <= goes | compiled or os.path.islink(os.path.join(site_packages, name)):
            goes = {path for path in goes if path.split("/", 1)[0] != name} | {name}
        else:
            goes |= compiled
    # the metadata first: where it exists, the distribution is whole
    return RemovalPlan(Exchange([*sorted(metadata), *sorted(goes)], []), stays)


def check_owners(paths: t.Collection[str], site_packages: str, names: t.Collection[str]) -> None:
    """Refuse to write over files of other distributions: they would break, and break again when what has overwritten them goes.

    :param paths: what comes, by the paths in the folder of packages
    :param names: normalised names of the distributions that come
    :raises TorchExtensionError: with what belongs to whom
    """
    leaving = [found for name, found in find_installed([site_packages]).items() if name in names and found.is_complete]
    existing = {os.path.normpath(path) for path in paths if os.path.lexists(os.path.join(site_packages, path))}
    ours = _recorded_files(leaving)
    if not existing and not ours:
        return  # to read all records takes long
    for owner, files in records.find_owners(existing | ours, site_packages, names).items():
        more = f" and {len(files) - _MAX_FILES} more files" if len(files) > _MAX_FILES else ""
        belong, them = ("belongs", "it") if len(files) == 1 else ("belong", "them")
        raise TorchExtensionError(
            f"{', '.join(files[:_MAX_FILES])}{more} in {site_packages} {belong} to {owner}, and {' and '.join(names)} would overwrite or"
            f" remove {them}. Nothing was changed. Uninstall {owner.split()[0]} first, and install it anew afterwards; or choose a version"
            " without these files in torch_extension_packages."
        )


@contextlib.contextmanager
def syncing(new: str) -> t.Iterator[None]:
    """Write what was unpacked to the disk in the background, for :func:`carry_out` has to wait for that.

    An error here is not lost: it occurs there again.
    """

    def write() -> None:
        with contextlib.suppress(OSError):
            atomic.sync_tree(new)

    thread = threading.Thread(target=write, daemon=True)  # after an error nobody waits for it
    thread.start()
    yield
    thread.join()


def carry_out(exchange: Exchange, new: str, site_packages: str) -> None:
    """Carry out a plan, all of it or, after an error, nothing. What comes is the owner's of the folder then.

    :raises TorchExtensionError: if something cannot be renamed; all is then as it was
    """
    scratch = os.path.dirname(new)
    give_to_owner(scratch, site_packages)  # who can finish it then, if we are killed
    atomic.sync_tree(new)
    path = os.path.join(scratch, _PLAN)
    plan = {"format": _PLAN_FORMAT, **exchange._asdict()}
    atomic.write_bytes(path, json.dumps(plan).encode(), like=os.stat(site_packages))
    with _Folders(scratch, site_packages) as folders:
        try:
            _finish(exchange, folders)
        except OSError as exc:
            _undo(exchange, folders)
            os.unlink(path)
            raise TorchExtensionError(
                f"{exc.filename} cannot be {'replaced' if exchange.comes else 'removed'}: {exc.strerror}. Nothing was changed. All of"
                f" {site_packages} should belong to one user; become that one (become, become_user)."
            ) from exc
    atomic.sync(site_packages)
    os.unlink(path)  # before anything else: a run that finds it carries it out again


def remove_leftovers(
    site_packages: str,
    names: t.Iterable[str] = (),
    prefix: str | None = None,
    warn: t.Callable[[str], object] = lambda text: None,
) -> list[str]:
    """Finish exchanges that were begun, and remove all leftovers. Returns their names.

    No other process may do so at the same time.

    :param prefix: folder of the environment, outside of which nothing goes; by default that of the packages
    :param warn: takes what the operator should know
    """
    leftovers = find_leftovers(site_packages, names)
    for name in leftovers:
        path = os.path.join(site_packages, name)
        if name.startswith(temporary.PREFIX):
            _resume(path, site_packages, prefix or site_packages, warn)
        if name.endswith(".dist-info") and not name.startswith("~"):
            _remove_stale_record(name, site_packages)
        elif os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)
    return leftovers


def _resume(scratch: str, site_packages: str, prefix: str, warn: t.Callable[[str], object]) -> None:
    """Finish the exchange that a killed run has begun, if it has."""
    try:
        exchange = _read_plan(scratch, site_packages, prefix)
        if exchange is None:
            return
        with _open_folders(scratch, site_packages) as folders:
            _finish(exchange, folders)
    except _NotOursError as exc:
        warn(
            f"{os.path.join(scratch, _PLAN)} was not written by this collection: {exc}. It was not carried out, and goes with its folder."
        )
        return
    atomic.sync(site_packages)
    os.unlink(os.path.join(scratch, _PLAN))


def _open_folders(scratch: str, site_packages: str) -> _Folders:
    try:
        return _Folders(scratch, site_packages)
    except OSError as exc:
        raise _NotOursError(f"{exc.filename} beside it cannot be opened ({exc.strerror})") from exc


class _NotOursError(Exception):
    """A plan that no run of ours has written. The message says what is wrong with it, and goes on after a colon."""


def _read_plan(scratch: str, site_packages: str, prefix: str) -> Exchange | None:
    """What a killed run was about to do; None if it had not come to that.

    Whoever may write to the folder of packages may put a plan there, and we may be root.

    :raises _NotOursError: if it asks for what no plan of ours does
    """
    try:
        handle = os.open(os.path.join(scratch, _PLAN), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise _NotOursError(f"it cannot be opened ({exc.strerror})") from exc
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid(), os.stat(site_packages).st_uid):
            raise _NotOursError("it is no file of the owner of the packages")
        text = file.read(_MAX_PLAN + 1)
    if len(text) > _MAX_PLAN:
        raise _NotOursError(f"it has more than {_MAX_PLAN} bytes")
    try:
        plan = parse_json(text)
    except ValueError as exc:
        raise _NotOursError("it is no JSON") from exc
    if not isinstance(plan, dict) or set(plan) != {"format", *Exchange._fields} or plan.pop("format") != _PLAN_FORMAT:
        raise _NotOursError(f"it is none of format {_PLAN_FORMAT}")
    for key, paths in plan.items():
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise _NotOursError(f"its {key!r} are no names")
    for name in plan["comes"]:
        if "/" in name or not _is_path_of_ours(name):
            raise _NotOursError(f"it brings {name[:200]!r}, which is no name in the folder of packages")
    for path in plan["goes"]:
        if not _is_path_of_ours(path) or not _is_below(path, site_packages, prefix):
            raise _NotOursError(f"it removes {path[:200]!r}, which is no path in the environment")
    return Exchange(**plan)


def _is_path_of_ours(path: str) -> bool:
    """Whether a path is written as a plan of ours writes it, and names something else than a folder of all packages."""
    is_plain = not os.path.isabs(path) and "\0" not in path and os.path.normpath(path) == path
    return is_plain and os.path.basename(path) not in ("", ".", "..") and not path.startswith(temporary.PREFIX)


def _remove_stale_record(name: str, site_packages: str) -> None:
    """Remove a record, unless it has become the one that counts: an exchange that was finished just now may have changed that."""
    for distributions in find_all_records([site_packages]).values():
        for record in distributions[1:]:
            if os.path.basename(record.path) == name:
                records.remove_record(record)


class _Folders:
    """The folders of an exchange, held open: what is renamed is reached from them, wherever their names lead meanwhile."""

    def __init__(self, scratch: str, site_packages: str) -> None:
        #: root follows no link that another user may have put there
        self._no_follow = os.O_NOFOLLOW if is_of_another_user(site_packages) else 0
        self._site_packages = site_packages
        with contextlib.ExitStack() as stack:
            self.site = self._open(site_packages, stack, flags=0)
            within = self._open(os.path.basename(scratch), stack, self.site, os.O_NOFOLLOW)
            self.new = self._open(_NEW, stack, within, os.O_NOFOLLOW)
            self.old = self._open(_OLD, stack, within, os.O_NOFOLLOW)
            self._stack = stack.pop_all()

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *args: object) -> None:
        self._stack.close()

    def has(self, folder: int, name: str) -> bool:
        """Whether there is a name in one of the folders."""
        return _exists(name, folder)

    def keep(self, path: str) -> None:
        """Put what is at a path in the folder of packages aside, if there is anything: beside each other, whatever folders it was in."""
        with contextlib.suppress(FileNotFoundError), self._parent(path) as (parent, name):
            self._move(name, parent, quote(path, safe=""), self.old, path)

    def give_back(self, path: str) -> None:
        """The reverse of :meth:`keep`."""
        with self._parent(path) as (parent, name):
            self._move(quote(path, safe=""), self.old, name, parent, path)

    def bring(self, name: str) -> None:
        """Move what comes to the packages."""
        self._move(name, self.new, name, self.site, name)

    def take_back(self, name: str) -> None:
        """The reverse of :meth:`bring`."""
        self._move(name, self.site, name, self.new, name)

    def remove_if_empty(self, path: str) -> None:
        """Remove a folder in the folder of packages, with what Python keeps in it, if nothing else is there."""
        with contextlib.suppress(OSError), self._parent(os.path.join(path, _COMPILED)) as (folder, name):
            os.rmdir(name, dir_fd=folder)
        with contextlib.suppress(OSError), self._parent(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def _move(self, source: str, source_folder: int, target: str, target_folder: int, path: str) -> None:
        if not _exists(source, source_folder):
            return
        try:
            os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)
        except OSError as exc:
            exc.filename = os.path.join(self._site_packages, path)
            raise

    @contextlib.contextmanager
    def _parent(self, path: str) -> t.Iterator[tuple[int, str]]:
        """The open folder that holds a path of the folder of packages, and the name there."""
        *folders, name = path.split("/")
        with contextlib.ExitStack() as stack:
            handle = self.site
            for folder in folders:
                handle = self._open(folder, stack, handle, self._no_follow)
            yield handle, name

    @staticmethod
    def _open(path: str, stack: contextlib.ExitStack, folder: int | None = None, flags: int = 0) -> int:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | flags, dir_fd=folder)
        stack.callback(os.close, handle)
        return handle


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _finish(exchange: Exchange, folders: _Folders) -> None:
    """Rename what is not renamed yet: what comes is still in the scratch folder then."""
    for path in exchange.goes:
        folders.keep(path)
    for name in exchange.comes:
        if folders.has(folders.new, name):
            folders.keep(name)
            folders.bring(name)
    for path in exchange.goes:
        above = os.path.dirname(path)
        while above and not above.startswith(".."):
            folders.remove_if_empty(above)
            above = os.path.dirname(above)


def _undo(exchange: Exchange, folders: _Folders) -> None:
    for name in exchange.comes:
        if not folders.has(folders.new, name):
            folders.take_back(name)
    for path in (*exchange.comes, *exchange.goes):
        folders.give_back(path)


def _is_below(path: str, site_packages: str, prefix: str) -> bool:
    return (os.path.realpath(os.path.join(site_packages, os.path.dirname(path))) + os.sep).startswith(
        os.path.realpath(prefix).rstrip(os.sep) + os.sep
    )


def _list_folders(paths: t.Collection[str]) -> set[str]:
    """The folders, at the top of the folder of packages, of files and of what Python compiles from these."""
    folders = {path.split("/", 1)[0] for path in paths if "/" in path and not path.startswith("..")}
    return folders | ({_COMPILED} if any("/" not in path and path.endswith(".py") for path in paths) else set())


def _is_in_cache(path: str) -> bool:
    """Whether a file is of those that Python makes for itself, whose owner is that of the module."""
    return os.path.basename(os.path.dirname(path)) == _COMPILED


def _is_compiled_from(path: str, sources: t.Container[str], site_packages: str) -> bool:
    """Whether Python has compiled a file from one of some modules, or from one that does not exist any more."""
    folder, name = os.path.split(path)
    source = os.path.join(os.path.dirname(folder), name.split(".", 1)[0] + ".py")
    return _is_in_cache(path) and (source in sources or not os.path.lexists(os.path.join(site_packages, source)))


def _recorded_files(distributions: t.Iterable[Distribution]) -> set[str]:
    return {os.path.normpath(row.path) for distribution in distributions for row in records.read_record(distribution)}


def _top_level(files: t.Iterable[str]) -> set[str] | None:
    if any(os.path.isabs(path) or path.startswith("..") for path in files):
        return None
    return {path.split("/", 1)[0] for path in files}


def _files_below(folder: str, name: str) -> t.Iterator[str]:
    """The files below an entry of a folder, itself if it is one, by their paths in this folder."""
    path = os.path.join(folder, name)
    if os.path.islink(path) or not os.path.isdir(path):
        yield name
        return
    for parent, _folders, files in os.walk(path):
        for file in files:
            yield os.path.relpath(os.path.join(parent, file), folder)
