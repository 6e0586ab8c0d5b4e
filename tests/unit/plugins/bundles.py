# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes bundles of small real wheels."""

from __future__ import annotations

from pathlib import Path

from locks import of_files
from wheels import LABEL, build_wheel

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import Requirements
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export import bom
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.bundle_files import (
    PlannedFile,
    hash_existing_files,
    plan_files,
    write_files,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._lock import lock_file


class BundleMaker:
    """Makes bundles of a lock, and remembers which wheels were fetched for them."""

    def __init__(self, folder: Path, environment: dict) -> None:
        self.folder, self.environment = folder, environment
        self.wheel = build_wheel(folder / "wheels", label=LABEL)
        self.einops = build_wheel(folder / "requirements", name="einops", version="0.8.1")
        self.fetched: list[str] = []
        self.lock_text = self.lock_of(self.wheel)

    def lock_of(self, *wheels: Path) -> str:
        """The text of a lock of wheels, which all require einops."""
        urls = [(wheel, f"https://github.example/{wheel.name}") for wheel in wheels]
        return of_files(self.environment, urls, [self.einops])

    def plan_files(self) -> dict[str, PlannedFile]:
        def get_wheel(wheel: dict) -> str:
            self.fetched.append(wheel["filename"])
            return str(self.folder / "wheels" / wheel["filename"])

        requirements = Requirements(str(self.folder / "requirements"), offline=True)
        lock = lock_file.parse_lock(self.lock_text, "a.yml")
        return plan_files(lock, self.lock_text, bom.build_bom(lock, self.lock_text), get_wheel, requirements)

    def write(self, dest: Path) -> dict[str, str]:
        """Write a bundle. Returns the hashes that its files should have, by their names."""
        planned = self.plan_files()
        write_files(str(dest), planned, hash_existing_files(str(dest)))
        return {name: file.sha256 for name, file in planned.items()}
