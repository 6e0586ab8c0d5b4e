#!/usr/bin/env bash
# make_sdists.sh STAND FOLDER: makes sdists of causal-conv1d there, which are those of the stand's index with a fault each:
# 1.4.0 does not compile, 1.3.0 never comes to its end.
set -euo pipefail
sources=$1/sdist folder=$2
mkdir -p "$folder"

like() { # VERSION
  rm -rf "$folder/causal_conv1d-$1"
  cp -r "$sources/causal_conv1d-1.6.0" "$folder/causal_conv1d-$1"
  sed -i "s/1\.6\.0/$1/" "$folder/causal_conv1d-$1/setup.py" "$folder/causal_conv1d-$1/causal_conv1d/__init__.py"
}
pack() { # VERSION
  python3 "$sources/pack.py" "$folder/causal_conv1d-$1" "$folder"
  rm -r "$folder/causal_conv1d-$1"
}

like 1.4.0
sed -i 's/return x/return misspelt/' "$folder"/causal_conv1d-1.4.0/csrc/part_NN.cpp
pack 1.4.0

like 1.3.0
sed -i 's/^PARTS = .*/&\nimport time; time.sleep(3600)/' "$folder"/causal_conv1d-1.3.0/setup.py
pack 1.3.0
