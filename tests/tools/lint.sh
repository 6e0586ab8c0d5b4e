#!/usr/bin/env bash
# lint.sh [--changed]: runs every linter, to the last one, and fails if any of them found something. With --changed the slow ones
# look at no more than what differs from main.
set -uo pipefail
failed=()
lint() {
  printf '\n-- %s\n' "$*" | cut -c1-120
  "$@" || failed+=("$1 ${2:-}")
}

mapfile -t scripts < <(git grep --untracked --files-with-matches --extended-regexp '^#!/(usr/)?bin/(env )?(ba)?sh' -- ':!*.md')
mapfile -t workflows < <(git ls-files --cached --others --exclude-standard '*.github/workflows/*.yml')
# those of the collection also by the path by which others import them
mapfile -t playbooks < <(
  git grep --untracked --files-with-matches --extended-regexp '^(- |  )(hosts|(ansible\.builtin\.)?import_playbook): .' -- '*.yml' |
    sed -E "p; s|^playbooks/|$PWD/.ansible/collections/ansible_collections/airgap/torch_extensions/&|" | sort -u
)
checked='' # those of them that are well
syntax_check() { # PLAYBOOK.. -> as ansible-lint does it, but with one start of Ansible for all, which takes longer than the check
  local said
  said=$(PYTHONWARNINGS=ignore ansible-playbook --syntax-check "$@" 2>&1) || { echo "$said"; return 1; }
  checked=$(realpath --no-symlinks "$@")
}
ansible_lint() { PATH=$PWD/tests/tools/syntax_checked:$PATH SYNTAX_CHECKED=$checked ansible-lint "$@"; }
yaml=() # what ansible-lint is given: nothing, and it finds all of it
documented=1 forms=1
if [ "${1:-}" = --changed ] && changed=$(tests/tools/changed.sh); then
  touched() { grep -E "$1" <<<"$changed"; }
  # what decides about all files has all of them looked at
  touched '^(\.ansible-lint|requirements-dev/.*|tests/tools/(lint\.sh|syntax_checked/.*))$' >/dev/null || {
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
[ "${yaml[*]}" = galaxy.yml ] || lint syntax_check "${playbooks[@]}"
lint ansible_lint -q "${yaml[@]}"
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
