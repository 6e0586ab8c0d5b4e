#!/usr/bin/env bash
# lint.sh: runs every linter, to the last one, and fails if any of them found something
set -uo pipefail
failed=()
lint() {
  printf '\n-- %s\n' "$*" | cut -c1-120
  "$@" || failed+=("$1 $2")
}

mapfile -t scripts < <(git grep --untracked --files-with-matches --extended-regexp '^#!/(usr/)?bin/(env )?(ba)?sh' -- ':!*.md')

mapfile -t workflows < <(git ls-files --cached --others --exclude-standard '*.github/workflows/*.yml')

lint ruff check --output-format concise .
lint ruff format --check --output-format concise .
lint mypy
PYTHONPATH=.ansible/collections lint lint-imports --no-cache
lint yamllint --strict .
lint ansible-lint -q
lint shellcheck --external-sources "${scripts[@]}"
lint antsibull-docs lint-collection-docs --plugin-docs .
lint antsibull-changelog lint
lint actionlint "${workflows[@]}"
lint check-jsonschema --builtin-schema vendor.github-workflows "${workflows[@]}"
lint check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/{bug,request}.yml
lint check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
lint check-jsonschema --builtin-schema vendor.gitlab-ci docs/examples/ci/.gitlab-ci.yml
lint pre-commit validate-config

[ ${#failed[@]} = 0 ] || { printf 'Found something: %s\n' "${failed[@]}" >&2; exit 1; }
