# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the operator does: the runs that carry out a round, and what is on each node after them."""

from __future__ import annotations

import shutil
from typing import Any

from rounds import BUNDLE, INSTALL, LOCK, PULL, SHARED, SLURM, Round, Wish
from world import HEAD, PULL_URL, REPOSITORY, SHARE, SLURM_STAGE, STAGE, VERSIONS, Run, World

_SDIST = "http://198.18.77.2:8080/packages/flash_attn-{}.tar.gz#sha256={}"


class Operator:
    """Who starts runs, and mends what belongs to him when a run says so."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._made: set[str] = set()  # names of locks and bundles that there are

    def source_of(self, plan: Round, version: str) -> str:
        """Where wheels come from; that of the plan, if it is there."""
        name = self._name(version, plan)
        is_there = {"lock": f"{name}.lock.yml" in self._made, "bundle": f"{name}.bundle" in self._made}
        return plan.source if is_there.get(plan.source, True) else "release"

    def start(self, plan: Round, version: str, log: str, other_cache: bool = False) -> Run:
        source = self.source_of(plan, version)
        cache = self._world.control / "other-cache" if other_cache else self._world.cache
        common: dict[str, Any] = {
            "ansible_ssh_args": "-C -o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=1 -o ServerAliveCountMax=3",
            "torch_extension_packages": [f"flash-attn=={version}"],
            "torch_extension_sources": [f"github:{REPOSITORY}"],
            "torch_extension_github_token": (self._world.state / "token").read_text().strip(),
            "torch_extension_cache_dir": str(cache),
        }
        carried, name = self._world.control / "carried", self._name(version, plan)
        playbooks = ["install_flash_attn"]
        if plan.action == INSTALL:
            if source == "directory":
                common["torch_extension_sources"] = [f"directory:{self._world.folder / 'wheels'}"]
            if source == "lock":
                common["torch_extension_lock"] = str(carried / f"{name}.lock.yml")
            if source == "bundle":
                common["torch_extension_sources"] = [f"bundle:{carried / f'{name}.bundle'}"]
        else:
            common["torch_extension_lock"] = str(carried / f"{name}.lock.yml")
            common["torch_extension_bundle"] = str(carried / f"{name}.bundle")
            playbooks = ["lock"] if plan.action == LOCK else ["lock", "bundle"]
        settings: dict[str, Any] = {
            node: {**common, **self._settings_of(node, wish, version)} for node, wish in plan.wishes.items()
        }
        # the inventory has no localhost, which would be one of all nodes then
        for_all = (
            {**common, "torch_extension_ca_path": str(self._world.state / "ca.pem")} if plan.action == BUNDLE else {}
        )
        limit = ",".join([*plan.wishes, *(["localhost"] if plan.action == BUNDLE else [])])
        return Run(self._world, playbooks, settings, for_all, limit, self._world.logs / log)

    def note_success(self, plan: Round, version: str) -> None:
        """What was made is there from now on, and the operator has a copy of it."""
        carried, name = self._world.control / "carried", self._name(version, plan)
        made = {LOCK: [f"{name}.lock.yml"], BUNDLE: [f"{name}.lock.yml", f"{name}.bundle"]}.get(plan.action, [])
        for entry in made:
            _copy(carried / entry, self._world.control / "safe" / entry)
        self._made.update(made)

    def mend(self) -> None:
        """Put right what a run does not touch because it is the operator's: locks, bundles and the site's server."""
        for entry in sorted(self._made):
            _copy(self._world.control / "safe" / entry, self._world.control / "carried" / entry)
        for path in self._world.pulled().glob("*"):
            if self._world.published.get(path.name, {}).get("", "") != _sha256(path):
                path.unlink()

    def forget(self) -> None:
        self._made.clear()

    def _name(self, version: str, plan: Round) -> str:
        return f"{version}-{'slurm' if any(wish.way == SLURM for wish in plan.wishes.values()) else 'plain'}"

    def _settings_of(self, node: str, wish: Wish, version: str) -> dict[str, Any]:
        delivery: dict[str, dict[str, Any]] = {
            SHARED: {"torch_extension_shared_dir": SHARE},
            PULL: {
                "torch_extension_pull_url": PULL_URL,
                "torch_extension_pull_ca_path": f"{self._world.state}/site-ca.pem",
            },
            SLURM: {"torch_extension_slurm_host": HEAD, "torch_extension_slurm_wait": 20},
        }
        return {
            "torch_extension_delivery": wish.way,
            "torch_extension_mode": wish.mode,
            "torch_extension_keep_wheel": wish.keeps,
            "torch_extension_stage_dir": SLURM_STAGE if wish.way == SLURM else STAGE.format(node),
            "torch_extension_sdist_url": _SDIST.format(version, "0" * 64),
            **delivery.get(wish.way, {}),
        }


def next_version(version: str | None, plan: Round) -> str:
    if version is None:
        return VERSIONS[0]
    return VERSIONS[1 - VERSIONS.index(version)] if plan.new_version else version


def _sha256(path: Any) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _copy(source: Any, target: Any) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
