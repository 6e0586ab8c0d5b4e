"""check_artefact.py TARBALL: fails unless it holds what the repository has for users, all of it and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile

FOR_USERS = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "LICENSES/",
    "README.md",
    "SECURITY.md",
    "bindep.txt",
    "changelogs/",
    "docs/",
    "meta/",
    "playbooks/",
    "plugins/",
    "requirements.txt",
    "roles/",
)
NOT_FOR_USERS = ("changelogs/fragments/",)
WRITTEN_BY_GALAXY = {"FILES.json", "MANIFEST.json"}

listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], text=True)
wanted = {path for path in listed.split("\0") if path.startswith(FOR_USERS) and not path.startswith(NOT_FOR_USERS)}
with tarfile.open(sys.argv[1]) as artefact:
    held = {member.name for member in artefact if member.isfile()} - WRITTEN_BY_GALAXY

problems = [f"in the artefact, but not for users: {path}" for path in sorted(held - wanted)]
problems += [f"not in the artefact: {path}" for path in sorted(wanted - held)]
problems += [f"missing altogether: {place}" for place in FOR_USERS if not any(path.startswith(place) for path in held)]
print(*problems or [f"The artefact holds {len(held)} files, all of them for users."], sep="\n")
sys.exit(bool(problems))
