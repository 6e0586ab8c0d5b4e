#!/usr/bin/env bash
# site.sh WAY RATE CONTROL_RATE: gives the nodes that are up what WAY of delivery needs, and limits the links: RATE for every
# machine of the cluster, CONTROL_RATE for what the control node sends
set -euo pipefail
stand() { tests/stand/stand "$@"; }
mapfile -t nodes < <(stand list | cut -d' ' -f1)
machines=("${nodes[@]}")
case $1 in
  copy) ;;
  shared) stand share site /share "${nodes[@]}" ;;
  pull) stand artefacts && machines+=(artefacts) ;;
  slurm)
    stand up head=slurm
    stand slurm head "${nodes[@]}"
    machines+=(head)
    ;;
esac
stand shape control "$3"
for machine in "${machines[@]}"; do stand shape "$machine" "$2"; done
