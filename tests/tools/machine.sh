#!/usr/bin/env bash
# machine.sh: says what this machine lacks for the tests, or installs it where that takes no more than a Debian package
set -euo pipefail
cannot() { echo "Cannot run here: $*." >&2; exit 1; }

[ "$(uname -s)" = Linux ] || cannot "the tests need Linux, for its network namespaces and overlayfs"

missing=()
command -v shellcheck >/dev/null || missing+=(shellcheck)
command -v g++ >/dev/null || missing+=(g++) # with gcc and binutils: the unit tests compile libraries
if python=$(tests/tools/find-python.sh 3.11 3.13); then # which the unit tests build extensions for
  [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || missing+=(python3-dev)
else
  missing+=(python3-venv python3-dev)
fi
[ ${#missing[@]} -gt 0 ] || exit 0
command -v apt-get >/dev/null || cannot "please install ${missing[*]}"

echo "Installing Debian packages: ${missing[*]}"
as_root=tests/tools/as-root.sh
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
$as_root "${apt[@]}" update
$as_root "${apt[@]}" install --yes --no-install-recommends "${missing[@]}" >/dev/null
tests/tools/find-python.sh 3.11 3.13 >/dev/null || cannot "no Python 3.11 to 3.13 with its venv module"
