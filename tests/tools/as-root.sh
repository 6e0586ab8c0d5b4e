#!/usr/bin/env bash
# as-root.sh COMMAND..: runs it as root, with this environment
set -eu
[ "$EUID" != 0 ] || exec "$@"
command -v sudo >/dev/null || { echo "This needs root or sudo: $*" >&2; exit 1; }
exec sudo --preserve-env env PATH="$PATH" "$@"
