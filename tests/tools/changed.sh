#!/usr/bin/env bash
# changed.sh: lists the files that differ from where this branch left main: committed since, not yet committed, or not yet known to
# git. Fails where git knows no main.
set -euo pipefail
for main in origin/main main; do
  base=$(git merge-base HEAD "$main" 2>/dev/null) || continue
  git diff --name-only --diff-filter=d "$base"
  git ls-files --others --exclude-standard
  exit
done
exit 1
