# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What every part of the stand uses.

say() { echo "stand: $*" >&2; }
die() { say "$@"; exit 1; }

# step WHAT CMD..: runs CMD and says what it did and how long it took
step() {
  local what=$1 start=$SECONDS result
  shift
  say "$what"
  "$@"
  result=$? # reached only where the caller deals with a failure: errexit is off there
  [ "$result" = 0 ] || return "$result"
  say "$what: done in $((SECONDS - start)) s"
}

# check_host: ends with one line where the stand cannot work. Sets what os-release says: ID, VERSION_CODENAME
check_host() {
  [ "$(uname -s)" = Linux ] || die "needs Linux: nodes are Linux namespaces, and this is $(uname -s)"
  [ "$(uname -m)" = x86_64 ] || die "needs x86_64: its wheels are built for that, and this is $(uname -m)"
  # shellcheck source=/dev/null
  . /etc/os-release
  case $ID in debian | ubuntu) ;; *) die "needs Debian or Ubuntu, and this is $ID" ;; esac
  [ "$(id -u)" = 0 ] || die "needs root or sudo"
}

# one_at_a_time LOCK ARG..: begins this script again under the lock, unless it holds it already. flock -o keeps the
# lock out of the servers and nodes that the command starts, which outlive it.
one_at_a_time() {
  local lock=$1
  shift
  [ "${STAND_LOCKED:-}" = "$lock" ] && return
  mkdir -p "$(dirname "$lock")"
  STAND_LOCKED=$lock exec flock -o "$lock" "$STAND/stand" "$@"
}
