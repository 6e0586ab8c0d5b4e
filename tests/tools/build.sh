#!/usr/bin/env bash
# build.sh: builds the collection, looks into the artefact, installs it and uses what was installed, also where there is no network;
# then Galaxy's own checks
set -euo pipefail
root=$PWD
built=$PWD/.build/artefact
installed=$PWD/.build/installed
rm -rf "$built" "$installed"

ansible-galaxy collection build --output-path "$built"
artefact=$(echo "$built"/*.tar.gz)
python tests/tools/check_artefact.py "$artefact"

# from here on only the installed copy is seen
export ANSIBLE_COLLECTIONS_PATH=$installed
ansible-galaxy collection install --offline --collections-path "$installed" "$artefact"
cd "$installed/ansible_collections/airgap/torch_extensions"

without_warning() { # COMMAND..
  local warnings
  warnings=$("$@" 2>&1 >/dev/null) || { echo "$warnings"; exit 1; }
  [ -z "$warnings" ] || { printf '%s\nA user would see these warnings of: %s\n' "$warnings" "$*"; exit 1; }
  echo "Without a warning: $*"
}
documented() { # TYPE NAME..
  [ $# = 1 ] || without_warning ansible-doc --type "$@"
}
names() { # FILE.. -> the full names of the plugins, private ones left out
  for file; do
    file=$(basename "$file" .py)
    [[ $file == _* || $file == '*' ]] || echo "airgap.torch_extensions.$file"
  done
}
for type in lookup filter test callback inventory; do
  mapfile -t plugins < <(names plugins/"$type"/*)
  documented "$type" "${plugins[@]}"
done
mapfile -t plugins < <(names plugins/modules/*)
documented module "${plugins[@]}"
mapfile -t roles < <(names roles/*)
documented role "${roles[@]}"
cd "$built"
without_warning ansible-playbook --syntax-check --inventory node, airgap.torch_extensions.install_flash_attn

(cd "$root" && tests/tools/execution_environment.sh "$artefact")
(cd "$root" && tests/tools/carry.sh)

log=$built/galaxy-importer.log
python -m galaxy_importer.main "$artefact" > "$log" 2>&1 || { cat "$log"; exit 1; }
grep -E 'WARNING|ERROR' "$log" || true
echo "galaxy-importer takes it"
