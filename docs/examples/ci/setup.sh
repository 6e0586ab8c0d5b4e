#!/usr/bin/env bash
# Makes .venv, with all that the jobs run, and installs the collection.
set -euo pipefail
python3 -m venv .venv
export PATH=$PWD/.venv/bin:$PATH
pip install -r requirements.txt
ansible-galaxy collection install -r requirements.yml
pip install -r ~/.ansible/collections/ansible_collections/airgap/torch_extensions/requirements.txt
