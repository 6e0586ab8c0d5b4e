#!/usr/bin/env bash
# lint.sh [--changed]: runs every linter, to the last one, and fails if any of them found something. With --changed the slow ones
# look at no more than what differs from main.
set -uo pipefail
failed=()
lint() {
  printf '\n-- %s\n' "$*" | cut -c1-120
  "$@" || failed+=("$1 $2")
}

mapfile -t scripts < <(git grep --untracked --files-with-matches --extended-regexp '^#!/(usr/)?bin/(env )?(ba)?sh' -- ':!*.md')
mapfile -t workflows < <(git ls-files --cached --others --exclude-standard '*.github/workflows/*.yml')
yaml=() # what ansible-lint is given: nothing, and it finds all of it
documented=1 forms=1
if [ "${1:-}" = --changed ] && changed=$(tests/tools/changed.sh); then
  touched() { grep -E "$1" <<<"$changed"; }
  # what decides about all files has all of them looked at
  touched '^(\.ansible-lint|requirements-dev/.*|tests/tools/lint\.sh)$' >/dev/null || {
    mapfile -t yaml < <(touched '\.ya?ml$' | grep -v '^changelogs/')
    [ ${#yaml[@]} -gt 0 ] || yaml=(galaxy.yml)
    touched '^(plugins|roles|docs|meta)/' >/dev/null || documented=
    touched '^(\.github|docs/examples)/|^\.pre-commit' >/dev/null || forms=
  }
fi

lint ruff check --output-format concise .
lint ruff format --check --output-format concise .
lint mypy
PYTHONPATH=.ansible/collections lint lint-imports --no-cache
lint yamllint --strict .
lint ansible-lint -q "${yaml[@]}"
lint shellcheck --external-sources "${scripts[@]}"
[ -z "$documented" ] || lint antsibull-docs lint-collection-docs --plugin-docs .
lint antsibull-changelog lint
if [ -n "$forms" ]; then
  lint actionlint "${workflows[@]}"
  lint check-jsonschema --builtin-schema vendor.github-workflows "${workflows[@]}"
  lint check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/{bug,request}.yml
  lint check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
  lint check-jsonschema --builtin-schema vendor.gitlab-ci docs/examples/ci/.gitlab-ci.yml
  lint pre-commit validate-config
fi

[ ${#failed[@]} = 0 ] || { printf 'Found something: %s\n' "${failed[@]}" >&2; exit 1; }
