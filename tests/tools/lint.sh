#!/usr/bin/env bash
# lint.sh [--changed]: runs every linter, to the last one, and fails if any of them found something. With --changed the slow ones
# look at no more than what differs from main.
set -uo pipefail
failed=()
lint() {
  printf '\n-- %s\n' "$*" | cut -c1-120
  "$@" || failed+=("$1 $2")
}

mapfile -t scripts < <(git grep --untracked --files-with-matches --extended-regexp '^#!/(usr/)?bin/(env )?(ba)?sh')
yaml=() # what ansible-lint is given: nothing, and it finds all of it
documented=1
if [ "${1:-}" = --changed ] && changed=$(tests/tools/changed.sh); then
  touched() { grep -E "$1" <<<"$changed"; }
  # what decides about all files has all of them looked at
  touched '^(\.ansible-lint|requirements-dev/.*|tests/tools/lint\.sh)$' >/dev/null || {
    mapfile -t yaml < <(touched '\.ya?ml$' | grep -v '^changelogs/')
    [ ${#yaml[@]} -gt 0 ] || yaml=(galaxy.yml)
    touched '^(plugins|roles|docs|meta)/' >/dev/null || documented=
  }
fi

lint ruff check --output-format concise .
lint ruff format --check --output-format concise .
lint yamllint --strict .
lint ansible-lint -q "${yaml[@]}"
lint shellcheck --external-sources "${scripts[@]}"
[ -z "$documented" ] || lint antsibull-docs lint-collection-docs --plugin-docs .
lint antsibull-changelog lint

[ ${#failed[@]} = 0 ] || { printf 'Found something: %s\n' "${failed[@]}" >&2; exit 1; }
