# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# What runs on a node of a Slurm cluster, with DAEMON=slurmctld or slurmd before it and a tar archive of the cluster's files on
# standard input. It starts what does not run. Says nothing if all is well.
set -eu

# pids PROGRAM: of its processes. A node has no pgrep.
pids() {
  program=$(readlink -f "/usr/sbin/$1")
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/exe")" != "$program" ] || echo "${process#/proc/}"
  done
}
# stop PROGRAM, and wait for its end; a zombie has no program
stop() {
  for pid in $(pids "$1"); do
    kill -KILL "$pid"
    while readlink "/proc/$pid/exe" >/dev/null; do sleep 0.05; done
  done
}
# give FILE FOLDER [OPTION..]: a file of the cluster's; fails if it is there already
give() {
  file=$1 folder=$2
  shift 2
  ! cmp -s "$file" "$folder/$file" || return 1
  install "$@" "$file" "$folder"
}

install -d -m 700 /run/stand-slurm
cd /run/stand-slurm
tar -x
cat hosts >/etc/hosts
# Slurm's plugin for cgroups gives up where none are mounted, but for the first version's; newer Slurms do without one
version=$(slurmd -V)
case ${version##* } in
  2[0-2].* | 23.02.*) plugin=cgroup/v1 ;;
  *) plugin=disabled ;;
esac
echo "CgroupPlugin=$plugin" >/etc/slurm/cgroup.conf
if give munge.key /etc/munge -o munge -g munge -m 400; then stop munged; fi
if give slurm.conf /etc/slurm -m 644; then stop "$DAEMON"; fi

mkdir -p /var/lib/slurm/slurmctld /var/lib/slurm/slurmd
# both go to the background by themselves, and what they say then is in their logs
[ -n "$(pids munged)" ] || setsid runuser -u munge munged </dev/null
[ -n "$(pids "$DAEMON")" ] || setsid "$DAEMON" </dev/null
