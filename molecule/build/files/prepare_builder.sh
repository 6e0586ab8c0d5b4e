#!/usr/bin/env bash
# prepare_builder.sh: what this machine has besides: a compiler for an older CUDA, and a small disk
set -euo pipefail
mkdir -p /usr/local/cuda/{bin,include/crt} /mnt/small
echo '#if __GNUC__ > 14' >/usr/local/cuda/include/crt/host_config.h
cat >/usr/local/cuda/bin/nvcc <<'TEXT'
#!/bin/sh
case "$*" in --version | -V) echo 'Cuda compilation tools, release 12.8, V12.8.93' ;; *) exit 1 ;; esac
TEXT
chmod +x /usr/local/cuda/bin/nvcc
mount -t tmpfs -o size=64m tmpfs /mnt/small
