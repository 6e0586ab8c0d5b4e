# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes bundles of small real wheels."""

from __future__ import annotations

from pathlib import Path

from locks import environment_of_another_kind, lock_text_of_files, plan_of_files
from wheels import LABEL, build_wheel, sha256

from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._downloads.requirements import RequirementFinder
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export import bom
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.bundle_files import (
    PlannedFile,
    hash_existing_files,
    plan_files,
    write_files,
)
from ansible_collections.airgap.torch_extensions.plugins.plugin_utils._export.lock_content import (
    build_lock,
    format_lock,
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
        return lock_text_of_files(self.environment, urls, [self.einops])

    def lock_namesakes(self) -> tuple[Path, Path]:
        """Lock two wheels of one name, the second one for nodes of another kind. Returns them."""
        folders = [self.folder / "wheels" / place for place in ("cu128", "cu130")]
        wheels = [build_wheel(folder, files={"flash_attn/__init__.py": f"V = '{folder.name}'\n"}) for folder in folders]
        environments = [self.environment, environment_of_another_kind(self.environment)]
        urls = [
            f"https://index.example/whl/{folder.name}/{wheel.name}"
            for folder, wheel in zip(folders, wheels, strict=True)
        ]
        plans = {
            url: plan_of_files(environment, [(wheel, url)], [self.einops])
            for environment, wheel, url in zip(environments, wheels, urls, strict=True)
        }
        self.lock_text = format_lock(build_lock(plans))
        return wheels[0], wheels[1]

    def plan_files(self) -> dict[str, PlannedFile]:
        def get_wheel(wheel: dict) -> str:
            self.fetched.append(wheel["filename"])
            candidates = (self.folder / "wheels").rglob(wheel["filename"])
            return next(str(path) for path in candidates if sha256(path) == wheel["sha256"])

        requirements = RequirementFinder(str(self.folder / "requirements"))
        lock = lock_file.parse_lock(self.lock_text, "a.yml")
        return plan_files(lock, self.lock_text, bom.build_bom(lock, self.lock_text), get_wheel, requirements)

    def write(self, dest: Path) -> dict[str, str]:
        """Write a bundle. Returns the hashes that its files should have, by their names."""
        planned = self.plan_files()
        write_files(str(dest), planned, hash_existing_files(str(dest)))
        return {name: file.sha256 for name, file in planned.items()}
