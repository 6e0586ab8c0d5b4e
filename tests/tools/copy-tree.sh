#!/usr/bin/env bash
# copy-tree.sh FOLDER: puts what git knows or would add of the working tree into FOLDER
set -euo pipefail
git ls-files -z --cached --others --exclude-standard --deduplicate |
  while IFS= read -r -d '' file; do
    [ ! -e "$file" ] || printf '%s\0' "$file" # git lists what was deleted, too
  done |
  tar --create --null --no-recursion --files-from=- | tar --extract --directory "$1"
