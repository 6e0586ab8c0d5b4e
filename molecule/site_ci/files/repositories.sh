#!/usr/bin/env bash
# repositories.sh FOLDER VERSION: makes, in FOLDER, a repository of the collection with a tag VERSION, and a site's repository.
# Runs at the root of the project.
set -euo pipefail
collection=$1/collection site=$1/repository
mkdir -p "$1/home" "$collection"
tests/tools/copy-tree.sh "$collection"
git -C "$collection" init --quiet
git -C "$collection" add --all
git -C "$collection" -c user.name=CI -c user.email=ci@example.com commit --quiet --message "What is tested"
git -C "$collection" tag "$2"
cp -r docs/examples/ci "$site"
git -C "$site" init --quiet # else molecule would find the project's settings further up
