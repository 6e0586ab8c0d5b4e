# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.
"""For which GPUs the code is that nvcc puts into a library.

NVIDIA does not document the format; ``fatbinary_section.h`` of the toolkit names the sections alone. What follows was read off
what nvcc 13.0 writes, compressed in every way it offers and not at all, and off xformers 0.0.29.post3 (CUDA 12), and held
against cuobjdump 12.8. A section is a sequence of containers, one a translation unit:

======  ====  =======================================================
offset  type  container
======  ====  =======================================================
0       u32   0xBA55ED50
4       u16   version, 1
6       u16   size of this header, 16
8       u64   size of the entries that follow it
======  ====  =======================================================

and a container one of entries:

======  ====  =======================================================
offset  type  entry
======  ====  =======================================================
0       u16   kind: 1 PTX, 2 cubin (SASS), 8 NVVM IR for the linker
4       u32   size of this header: 64, 72, 80, 112, …
8       u64   size of the payload that follows it, padded
28      u32   architecture: 90 is sm_90, or compute_90
40      u64   flags: bit 20 is the "a" of sm_90a, bit 21 the "f" of
              sm_100f; bits 13 and 15 tell that it is compressed
======  ====  =======================================================

So no payload has to be read, whose ``e_flags`` tell less: nvcc 13.0 gives sm_90 and sm_90a the same.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._binaries.bounded_reading import (
    Budget,
    UnreadableError,
    read_exactly,
)

#: where it lies: of code that is whole, and of code that was linked from several translation units (nvcc -rdc=true)
SECTIONS = (".nv_fatbin", "__nv_relfatbin")

_CONTAINER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<H2xIQ12xI8xQ")
_MAGIC = 0xBA55ED50
_VERSION = 1
_PTX, _SASS = 1, 2
_ONLY_THIS_ARCHITECTURE, _ONLY_THIS_FAMILY = 1 << 20, 1 << 21
_CHUNK_SIZE = 4096  # bytes


class GpuCode(t.NamedTuple):
    """The architectures of GPU code, as nvcc writes them, without sm_ and compute_."""

    sass: frozenset[str]  # runs as it is; without a letter also on higher minor versions of its architecture
    ptx: frozenset[str]  # is compiled by the driver; without a letter also for later architectures
    other_kinds: frozenset[int]  # of entries that are neither


def read_gpu_code(file: t.IO[bytes], offset: int, size: int, budget: Budget) -> GpuCode:
    """Read the headers of a section of fat binaries.

    :param file: seekable
    :param offset: of the section in it, in bytes
    :param size: of the section, in bytes
    :raises UnreadableError: if it is in another format, lies about sizes, or cannot be read
    """
    architectures: dict[int, set[str]] = {}  # by kinds of entries
    end = offset + size
    while offset < end:
        budget.spend_entries(1)
        padding = _count_padding(file, offset, end)
        if padding:
            offset += padding
            continue
        magic, version, header_size, content_size = _unpack(_CONTAINER, file, offset, end)
        if (magic, version) != (_MAGIC, _VERSION):
            raise UnreadableError(
                f"its GPU code has the magic {magic:#x} and version {version}, wanted are {_MAGIC:#x} and {_VERSION}"
            )
        start = _advance(offset, max(header_size, _CONTAINER.size), end)
        offset = _advance(start, content_size, end)
        _read_entries(file, start, offset, budget, architectures)
    other_kinds = frozenset(architectures) - {_PTX, _SASS}
    return GpuCode(frozenset(architectures.get(_SASS, ())), frozenset(architectures.get(_PTX, ())), other_kinds)


def architecture_sort_key(architecture: str) -> tuple[int, str]:
    """Sorts 90 before 90a, and that before 100."""
    number = architecture.rstrip("af")
    return int(number), architecture[len(number) :]


def _read_entries(file: t.IO[bytes], offset: int, end: int, budget: Budget, architectures: dict[int, set[str]]) -> None:
    while offset < end:
        budget.spend_entries(1)
        kind, header_size, payload_size, number, flags = _unpack(_ENTRY, file, offset, end)
        suffix = "a" if flags & _ONLY_THIS_ARCHITECTURE else "f" if flags & _ONLY_THIS_FAMILY else ""
        architectures.setdefault(kind, set()).add(f"{number}{suffix}")
        offset = _advance(offset, max(header_size, _ENTRY.size), end)
        offset = _advance(offset, payload_size, end)


def _count_padding(file: t.IO[bytes], offset: int, end: int) -> int:
    """The number of zeros from here on, or a part of it. Linkers put them between the sections of two objects."""
    data = read_exactly(file, offset, min(_CHUNK_SIZE, end - offset))
    return len(data) - len(data.lstrip(b"\0"))


def _unpack(layout: struct.Struct, file: t.IO[bytes], offset: int, end: int) -> tuple[int, ...]:
    _advance(offset, layout.size, end)
    return layout.unpack(read_exactly(file, offset, layout.size))


def _advance(offset: int, size: int, end: int) -> int:
    if size > end - offset:
        raise UnreadableError(f"its GPU code has {size} bytes at byte {offset}, which only has {end - offset} left")
    return offset + size
