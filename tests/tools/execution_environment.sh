#!/usr/bin/env bash
# execution_environment.sh ARTEFACT: has ansible-builder make the context of docs/execution-environment.yml, and takes of its
# steps those that need no container: the collection is installed and asked what it needs, by the context's own files.
set -euo pipefail
root=$PWD built=$PWD/.build/execution-environment
rm -rf "$built"
mkdir -p "$built"
cp "$1" docs/execution-environment.yml "$built"
cd "$built"
ansible-builder create --verbosity 0 --file execution-environment.yml
cd context/_build
ansible-galaxy collection install --offline --force --requirements-file requirements.yml --collections-path "$built/collections" >"$built/install.log" ||
  { cat "$built/install.log"; exit 1; }
python scripts/introspect.py introspect --write-pip "$built/pip.txt" --write-bindep "$built/bindep.txt" "$built/collections" \
  >"$built/introspect.log"

missing() { # WANTED FOUND: what is in the first and not in the second, but for remarks
  grep -vxFf <(sed 's/ *#.*//' "$2") <(sed 's/ *#.*//' "$1" | grep .) || true
}
problems=$(missing "$root/requirements.txt" "$built/pip.txt"; missing "$root/bindep.txt" "$built/bindep.txt")
[ -z "$problems" ] || { printf 'An execution environment would lack:\n%s\n' "$problems"; exit 1; }
echo "An execution environment has all that the collection needs"
