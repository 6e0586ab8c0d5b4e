#!/usr/bin/env bash
# lint.sh: runs every linter, to the last one, and fails if any of them found something
set -uo pipefail
failed=()
lint() {
  printf '\n-- %s\n' "$*" | cut -c1-120
  "$@" || failed+=("$1 $2")
}

mapfile -t scripts < <(git grep --untracked --files-with-matches --extended-regexp '^#!/(usr/)?bin/(env )?(ba)?sh')

lint ruff check --output-format concise .
lint ruff format --check --output-format concise .
lint mypy
PYTHONPATH=.ansible/collections lint lint-imports --no-cache
lint yamllint --strict .
lint ansible-lint -q
lint shellcheck --external-sources "${scripts[@]}"
lint antsibull-docs lint-collection-docs --plugin-docs .
lint antsibull-changelog lint

[ ${#failed[@]} = 0 ] || { printf 'Found something: %s\n' "${failed[@]}" >&2; exit 1; }
