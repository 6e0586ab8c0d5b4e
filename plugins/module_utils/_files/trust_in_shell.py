# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The rule of ``trust`` in sh(1), for where no Python is at work: the commands that bring files to a node."""

from __future__ import annotations

import shlex
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.trust import FIRST_GIVEN_GROUP, GROUP_MARK

#: Ends the shell unless the working directory is of its user, and nobody else may write to it. That directory stays the one that was
#: looked at, whatever happens to its name; so each command that writes begins with this.
CHECK_FOLDER = (
    '[ -n "$(find . -prune -user "$(id -u)" ! -perm -020 ! -perm -002)" ] || '
    '{ set -- $(ls -ld .); echo "it belongs to another user, or others may write to it (owner $3, mode $1)" >&2; exit 1; };'
)

# The folder that exists, or the nearest above it, and those above that; what is made below them is this user's. One look in the usual
# case. Only where that finds something are names looked up, and containers and groups without others thought of.
_CHECK_ABOVE = """
up={path}; while [ ! -d "$up" ] && [ "$up" != "${{up%/*}}" ]; do up=${{up%/*}}; done
[ -d "$up" ] || case {path} in /*) up=/ ;; *) up=. ;; esac
cd "$up" || exit 1
set --; [ "$up" = {path} ] || set -- "$(pwd -P)"
up=$(pwd -P)
while [ "$up" != / ]; do up=${{up%/*}}; up=${{up:-/}}; set -- "$up" "$@"; done
safe='( ! -perm -020 ! -perm -002 -o -perm -1000 )'
if [ $# -gt 0 ] && [ -n "$(find "$@" -prune ! '(' '(' -user 0 -o -user "$(id -u)" ')' $safe ')')" ]; then
  users="-user 0 -o -user $(id -u)"; groups="-group 0"
  {lookups}
  awk '{{ all += $3 }} END {{ exit all >= 4294967295 }}' /proc/self/uid_map 2>/dev/null && users="$users -o -user 65534"
  own=$(id -g); members=$(getent group "$own" | cut -d: -f4)
  [ -n "$members" ] && [ "$members" != "$(id -un)" ] ||
    [ "$(getent passwd | awk -F: -v own="$own" '$4 == own {{ print $1 }}')" != "$(id -un)" ] || groups="$groups -o -group $own"
  for up in "$@"; do
    closed=$groups; gid=$(ls -ldn "$up" | awk '{{ print $4 }}')
    entry=$(getent group "$gid" 2>/dev/null) && [ "$gid" -lt {first_given_group} ] && [ -z "${{entry##*:}}" ] &&
      ! getent passwd | awk -F: -v own="$gid" '$4 == own {{ found = 1 }} END {{ exit !found }}' && closed="$groups -o -group $gid"
    if [ -n "$(find "$up" -prune ! '(' '(' $users ')' '(' ! -perm -002 '(' ! -perm -020 -o $closed ')' -o -perm -1000 ')' ')')" ] ||
      {{ [ -n "$(find "$up" -prune -perm -020 ! -perm -1000)" ] && case $(ls -ld "$up") in ??????????+*) ;; *) false ;; esac; }}
    then
      set -- $(ls -ld "$up")
      we="root$([ "$(id -u)" = 0 ] || echo " and $(id -un)")"; wanted="a path that they cannot, or them in torch_extension_trusted_owners"
      echo "others than $we may change $up (owner $3, mode $1). Wanted is $wanted" >&2
      exit 1
    fi
  done
fi;
"""


def enter_folder(path: str, trusted_owners: t.Iterable[str] = ()) -> str:
    """Commands that make a folder, and those above it, and go there, or end the shell: nothing is made where others could have it lead
    elsewhere. :data:`CHECK_FOLDER` is to follow.

    :param path: quoted
    :param trusted_owners: as of ``trust.trust``
    """
    lookups = "\n  ".join(map(_look_up, trusted_owners)) or ":"
    return f"( {_check_above(path, lookups)} ) || exit 1; mkdir -p {path} && cd {path} || exit 1;"


def may_run(program: str) -> str:
    """A command that succeeds where we are not root, or nobody else can change a program, or what it is a link to.

    :param program: quoted
    """
    places = [_check_above(path, ":") for path in (program, f'"$(readlink -f {program})"')]
    is_own = f'[ -n "$(find -L {program} -prune -user 0 ! -perm -020 ! -perm -002)" ]'
    return f'[ "$(id -u)" != 0 ] || ( {places[0]} {places[1]} {is_own} ) 2>/dev/null'


def discard_planted(path: str) -> str:
    """A command that removes what is at a path of the working directory, if it is not a file of this user's alone.

    Somebody may have put a link there while others could write to that folder.

    :param path: quoted
    """
    return (
        f"[ -z \"$(find {path} -prune ! '(' -type f -user \"$(id -u)\" -links 1 ')' 2>/dev/null)\" ] || rm -f {path};"
    )


def _check_above(path: str, lookups: str) -> str:
    return _CHECK_ABOVE.format(path=path, lookups=lookups, first_given_group=FIRST_GIVEN_GROUP)


def _look_up(name: str) -> str:
    is_group = name.startswith(GROUP_MARK)
    name = name[len(GROUP_MARK) :] if is_group else name
    kind, test, variable = ("group", "-group", "groups") if is_group else ("passwd", "-user", "users")
    number = name if name.isdigit() else f"$(getent {kind} {shlex.quote(name)} | cut -d: -f3)"
    return f'number={number}; [ -z "$number" ] || {variable}="${variable} -o {test} $number"'
