# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes small real shared libraries with the machine's compilers, and the GPU code that nvcc would put into them."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Iterable

FATBIN_MAGIC = 0xBA55ED50
PTX, SASS = 1, 2


def build_library(path: Path, source: str = "", *options: str | Path, language: str = "c") -> Path:
    """Compile and link a shared library without start-up code, so that it needs what its source needs, and no more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["g++" if language == "c++" else "gcc", "-shared", "-fPIC", "-O1", "-nostartfiles", "-o", path]
    command += ["-Wl,--no-as-needed", "-x", language, "-", "-x", "none", *options]
    subprocess.run(command, input=source, text=True, check=True, capture_output=True)
    return path


def calling(*symbols: str, weak: bool = False) -> str:
    """C that calls functions, whatever their names."""
    attribute = "__attribute__((weak))" if weak else ""
    declared = [f'void {attribute} f{index}(void) __asm__("{symbol}");' for index, symbol in enumerate(symbols)]
    called = [f"f{index}();" for index in range(len(symbols))]
    return "\n".join([*declared, f"void caller{'_weak' * weak}(void) {{ {' '.join(called)} }}\n"])


def defining(*symbols: str) -> str:
    """C that has functions, whatever their names."""
    return "".join(
        f'void f{index}(void) __asm__("{symbol}"); void f{index}(void) {{}}\n' for index, symbol in enumerate(symbols)
    )


def with_section(folder: Path, name: str, data: bytes) -> str:
    """C with a section of its own."""
    file = folder / f"{name.strip('._')}.bin"
    file.write_bytes(data)
    return f'__asm__(".section {name},\\"a\\",@progbits\\n.incbin \\"{file}\\"\\n.previous");'


def fatbin_entry(
    kind: int, architecture: int, flags: int = 0x11, payload: bytes = b"\0" * 16, header_size: int = 64
) -> bytes:
    """One piece of GPU code as nvcc lays it out; see fatbin.py for the layout."""
    header = struct.pack(
        "<HHIQIIHHIIIQQQ", kind, 0x101, header_size, len(payload), 0, 0, 8, 1, architecture, 0, 0, flags, 0, 0
    )
    return header.ljust(header_size, b"\0") + payload


def fatbin(*entries: bytes, magic: int = FATBIN_MAGIC, version: int = 1, size: int | None = None) -> bytes:
    """The GPU code of one translation unit."""
    content = b"".join(entries)
    return struct.pack("<IHHQ", magic, version, 16, len(content) if size is None else size) + content


def wheel_members(*paths: Path) -> Iterable[tuple[str, bytes]]:
    """Libraries as members of a wheel, at its top."""
    return [(path.name, path.read_bytes()) for path in paths]
