#!/usr/bin/env bash
# sanity.sh NAME: every test of the `ansible-test sanity` on the PATH; NAME tells its folder from that of another one
set -euo pipefail
name=$1
home=$PWD/.cache/sanity/$name # a HOME of its own; it keeps the environments that ansible-test makes
tree=$home/ansible_collections/airgap/torch_extensions
log=$home/sanity.log

# ansible-test resolves symlinks and sees only what git knows, so it gets a copy of the tree with a repository of its own.
# What it keeps between two runs lies in tests/output.
mkdir -p "$tree/tests/output" "$home/.ansible/test/cache" "$home/.config/pip"
find "$tree" -mindepth 1 -path "$tree/tests/output" -prune -o ! -type d -exec rm -f {} +
tests/tools/copy-tree.sh "$tree"
git -C "$tree" init --quiet
git -C "$tree" add --all

ln -sfn "$PWD/.venv-bootstrap" "$home/bootstrap"
for version in 23_1_2 24_2 25_2; do # of the pip that ansible-core 2.16 and those after it ask for
  cp tests/tools/get_pip_shim.py "$home/.ansible/test/cache/get_pip_$version.py"
done
# ansible-test hands no variable of pip's to the pip that it starts
.venv-bootstrap/bin/python tests/tools/pip_settings.py conf > "$home/.config/pip/pip.conf"

# every Python of the machine; pyenv's shims answer only for the version that is switched on, hence its folders
path=$(dirname "$(command -v ansible-test)")
for bin in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin; do
  [ ! -d "$bin" ] || path+=:$bin
done

cd "$tree"
ansible_test() { env HOME="$home" PATH="$path:$PATH" ansible-test sanity --venv --color no "$@" 2>&1; }
# Where Python compiles docutils for the first time it prints warnings, which ansible-test takes for a failure.
[ ! -d changelogs/fragments ] || ansible_test --test changelog >/dev/null || true
ansible_test | tee "$log"

# a test whose program is missing counts as passed; only a Python that this machine lacks may be passed over
if grep -E 'Required program|[Ss]kipp' "$log" | grep -v 'because it could not be found'; then
  echo "ansible-test passed over what it should have run." >&2
  exit 1
fi
count=$(grep -c '^Running sanity test' "$log") || { echo "ansible-test ran no test." >&2; exit 1; }
echo "$name: $count sanity tests passed"
