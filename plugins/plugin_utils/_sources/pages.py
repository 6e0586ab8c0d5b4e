# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

"""List the files on a page: of an index of packages (PEP 503, PEP 691), or a server's plain listing of a folder.

Why not pypi-simple: it takes the text of a link for the file's name, which Apache and nginx cut short in their listings,
and it needs pydantic and Beautiful Soup, half a second to import in the process of each node, and the time of html.parser.
"""

from __future__ import annotations

import contextlib
import re
import typing as t
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import url2pathname

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import judging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels.judging import Asset
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network import settings
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.http_cache import HttpCache
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.responses import Answer, MissingError
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.file_names import (
    is_address,
    is_file_name,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.json_answers import byte_count, load_json
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._sources.links import Attributes, find_tags

if t.TYPE_CHECKING:
    from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._network.credentials import OriginSecret

_SETTING = "torch_extension_sources"
_JSON = "application/vnd.pypi.simple.v1+json"
# The order of preference is that of PEP 691; a plain listing answers with HTML whatever is asked.
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1, */*;q=0.01"
_HEADERS = {"Accept": _ACCEPT, "User-Agent": "airgap.torch_extensions"}
_SUFFIXES = (".whl", ".tar.gz", ".zip")  # of the files that are listed
_MAX_HTML = 16 << 20  # bytes, which take some seconds to read
_MAX_FILES = 100_000  # of a page; the largest have some ten thousand
_EMPTY_SEGMENT = "\ue000"  # stands for one while URLs are joined; no URL has this character
_HTML = ("text/html", "application/vnd.pypi.simple.v1+html", "application/xhtml+xml")


def list_wheels(
    url: str,
    name: str,
    cache: str,
    ca_path: str | None = None,
    max_age: float = 600,
    warnings: list[str] | None = None,
    times: list[float] | None = None,
) -> list[Asset]:
    """The wheels of a package that a page has, in its order, without those that are yanked (PEP 592).

    :param url: the page of a package, the root of an index (``…/simple/``, or any page that links to a page of the
        package's name), or a listing of a folder
    :param name: of the package, in any spelling
    :param cache: the folder of the control node's cache
    :param ca_path: a file of CA certificates to trust instead of the usual ones
    :param max_age: for how many seconds an answer is used without a request
    :param warnings: what the operator should know is added here, each once
    :param times: when the oldest answer was given or confirmed is added here, in seconds since the epoch
    :raises UnavailableError: if the page cannot be had now, and no earlier answer is cached
    :raises MissingError: if there is no page
    :raises TorchExtensionError: for bad input, or if the cache cannot be used
    """
    settings.check_url(url, _SETTING)
    name = canonical(name)
    http_cache = HttpCache(cache, ca_path, max_age, _SETTING, _HEADERS, named_url=url)
    subject = f"What {url} has of {name}"
    try:
        # The root of the largest index is 40 MiB; by its conventional name it need not be read.
        if _last_segment(url) in ("simple", "+simple"):
            return _list_project_wheels(http_cache, f"{url.rstrip('/')}/{name}/", name, subject)
        page = http_cache.get(url, _parse_page, subject)
        assets = _wheels_of(page, name)
        project_url = None if assets else _find_page_of(page, name)
        return _list_project_wheels(http_cache, project_url, name, subject) if project_url else assets
    except MissingError as exc:
        raise MissingError(f"There is no page at {url} (404). See {_SETTING}.") from exc
    finally:
        if times is not None:
            times.append(http_cache.oldest)
        _add_warnings(http_cache, warnings)


def list_project(
    index: str,
    name: str,
    cache: str,
    ca_path: str | None = None,
    max_age: float = 600,
    warnings: list[str] | None = None,
    secret: OriginSecret | None = None,
) -> list[Asset]:
    """All files that an index has for a package, in its order, without those that are yanked; none, if it has no such package.

    :param index: its root, as pip has it in index-url; ``file:`` as well
    :param name: of the package, normalised
    :param secret: the credentials for it, if there are any
    :raises UnavailableError: if the page cannot be had now, and no earlier answer is cached
    :raises TorchExtensionError: if it is refused, or is no page of an index, or the cache cannot be used
    """
    url = f"{index.rstrip('/')}/{name}/"
    if urlsplit(url).scheme == "file":
        return _read_local_page(url)
    setting = "index-url of pip on the control node"
    http_cache = HttpCache(cache, ca_path, max_age, setting, _HEADERS, named_url=url, secret=secret)
    try:
        return http_cache.get(url, _parse_page, f"What {url} has").files
    except MissingError:
        return []
    finally:
        _add_warnings(http_cache, warnings)


def _read_local_page(url: str) -> list[Asset]:
    path = f"{url2pathname(urlsplit(url).path)}index.html"  # as pip takes it
    try:
        with open(path, "rb") as file:
            return _parse_html(Answer(url, "text/html", None, file.read())).files
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise TorchExtensionError(
            f"{path}, a page of the index of the control node's pip, cannot be read ({exc.strerror}). See `pip config list`."
        ) from exc


def _add_warnings(http_cache: HttpCache, warnings: list[str] | None) -> None:
    for warning in http_cache.warnings:
        if warnings is not None and warning not in warnings:
            warnings.append(warning)


def _list_project_wheels(http_cache: HttpCache, url: str, name: str, subject: str) -> list[Asset]:
    try:
        return _wheels_of(http_cache.get(url, _parse_page, subject), name)
    except MissingError:  # an index answers so for a package that it does not have
        return []


class _Page(t.NamedTuple):
    files: list[Asset]
    folders: list[str]  # links as they are written, of which there may be many
    base: str  # the URL that they begin from


def _wheels_of(page: _Page, name: str) -> list[Asset]:
    return [asset for asset in page.files if judging.is_named_after(asset.filename, name)]


def _find_page_of(page: _Page, name: str) -> str | None:
    """The URL of the first page that is named as a package."""
    for link in page.folders:
        path = re.split("[?#]", link, maxsplit=1)[0]
        if canonical(unquote(path.rstrip("/").rpartition("/")[2])) == name:
            with contextlib.suppress(ValueError):  # a link that is no URL does no harm
                return _join(page.base, link)
    return None


def _parse_page(answer: Answer) -> _Page:
    if answer.content_type == _JSON:
        return _parse_json(answer)
    if answer.content_type in _HTML:
        return _parse_html(answer)
    raise ValueError(f"it is {answer.content_type or 'of no type'}, wanted is a page of an index or a listing")


def _parse_json(answer: Answer) -> _Page:
    """By PEP 691, and PEP 700 for sizes."""
    try:
        page = load_json(answer.body)
        if "projects" in page:
            return _Page([], [f"{canonical(item['name'])}/" for item in page["projects"]], _as_folder(answer.url))
        if len(page["files"]) > _MAX_FILES:
            raise ValueError
        assets = [_read_file(item, answer.url) for item in page["files"] if not item.get("yanked")]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ValueError("it is not the JSON of an index (PEP 691)") from exc
    return _Page([asset for asset in assets if asset], [], answer.url)


def _read_file(item: t.Mapping[str, t.Any], address: str) -> Asset | None:
    """One file of an index; None, if it is no wheel or sdist, or its address is none.

    :raises LookupError, TypeError, AttributeError: if it is no file as PEP 691 has it
    """
    hashes, told = item.get("hashes", {}).get("sha256"), item.get("core-metadata", item.get("dist-info-metadata"))
    try:
        url = _join(address, item["url"])
        return _to_asset(url, hashes, byte_count(item.get("size")), told, address, item.get("requires-python"))
    except ValueError:  # a link that is no URL does no harm
        return None


def _parse_html(answer: Answer) -> _Page:
    if len(answer.body) > _MAX_HTML:
        raise ValueError(
            f"it has more than {_MAX_HTML >> 20} MiB of HTML; wanted is a listing of that size at most, such as the page of the package itself"
        )
    files: list[Asset] = []
    folders: list[str] = []
    base = ""
    # Names of files are ASCII, so a page of any encoding that knows ASCII will do.
    for tag in find_tags(answer.body.decode("utf-8", "replace"), ("a", "base", "input")):
        href = tag.attributes.get("href")
        if tag.name == "input" and (tag.attributes.get("type") or "").lower() == "password":
            raise ValueError("it asks for a password")
        with contextlib.suppress(ValueError):  # a link that is no URL does no harm
            if tag.name == "base" and href and not base:  # the first one counts (HTML Living Standard)
                base = _join(answer.url, href)
            elif tag.name == "a" and href and "data-yanked" not in tag.attributes:
                href = href.strip()
                # to join takes longer than all the rest, and most links are of something else
                is_named = any(suffix in (unquote(href) if "%" in href else href) for suffix in _SUFFIXES)
                asset = (
                    _to_linked_asset(_join(base or answer.url, href), tag.attributes, answer.url) if is_named else None
                )
                if asset:
                    files.append(asset)
                else:
                    folders.append(href)
        if len(files) > _MAX_FILES:
            raise ValueError(f"it lists more than {_MAX_FILES} files")
    return _Page(files, folders, base or answer.url)


def _to_linked_asset(url: str, attributes: Attributes, address: str) -> Asset | None:
    digest = re.search(r"(?:^|&)sha256=([^&]*)", urlsplit(url).fragment)
    return _to_asset(
        url,
        digest[1] if digest else None,
        None,
        attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata")),  # PEP 714 renamed it
        address,
        attributes.get("data-requires-python"),
    )


def _to_asset(
    url: str, sha256: t.Any, size: int | None, metadata: t.Any, page: str, requires_python: t.Any
) -> Asset | None:
    """A wheel or an sdist of any package; None, if the URL is of something else.

    :param metadata: what the page says of the file of its METADATA: true, or its hash as a dictionary or ``sha256=…`` (PEP 658)
    """
    parts = urlsplit(url)
    filename = unquote(parts.path.rpartition("/")[2])
    if not filename.endswith(_SUFFIXES) or not is_file_name(filename):
        return None
    # A page from the network has no say over files of the control node.
    is_local = parts.scheme == "file" and page.startswith("file:")
    if not is_local and not is_address(url):
        return None
    # S3 takes a plus for a space; and what is written in two ways must not be two files. A colon stays: a GitHub accelerator
    # looks for the https:// of the address that it is followed by.
    path = "/".join(quote(unquote(segment), safe="~@!:") for segment in parts.path.split("/"))
    return Asset(
        filename=filename,
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path, fragment="").geturl(),
        size=size,
        sha256=_checked_digest(sha256),
        address=page,
        has_metadata=bool(metadata) and metadata != "false",
        metadata_sha256=_checked_digest(
            metadata.get("sha256") if isinstance(metadata, dict) else str(metadata).removeprefix("sha256=")
        ),
        requires_python=requires_python if isinstance(requires_python, str) else None,
    )


def _checked_digest(sha256: t.Any) -> str | None:
    return sha256.lower() if isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256) else None


def _join(base: str, href: str) -> str:
    """As urljoin, which takes the empty segment out of a path such as that of ``https://mirror.example/https://github.com/``."""
    target = urlsplit(href)
    if target.scheme or target.netloc:
        return urljoin(base, href)
    return urljoin(_fill_segments(urlsplit(base)), _fill_segments(target)).replace(_EMPTY_SEGMENT, "")


def _fill_segments(parts: SplitResult) -> str:
    return parts._replace(path=re.sub("/(?=/)", f"/{_EMPTY_SEGMENT}", parts.path)).geturl()


def _last_segment(url: str) -> str:
    return unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])


def _as_folder(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"
