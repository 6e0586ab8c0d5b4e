# SPDX-License-Identifier: GPL-3.0-or-later
"""inventory.py STATE: prints the running nodes as an Ansible dynamic inventory."""

import json
import pathlib
import sys

state = pathlib.Path(sys.argv[1])
nodes = [line.split() for line in (state / "nodes").read_text().splitlines()]
ssh_options = {
    "UserKnownHostsFile": state / "known_hosts",  # holds the nodes' keys, so host key checking stays on
    "GlobalKnownHostsFile": "/dev/null",
    "IdentitiesOnly": "yes",
    "ServerAliveInterval": 2,  # without it a cut cable is noticed after minutes
    "ServerAliveCountMax": 5,
}
inventory = {
    "gpu_hosts": {
        "hosts": [node[0] for node in nodes],
        "vars": {
            "ansible_user": "root",
            "ansible_ssh_executable": str(state / "ssh"),
            "ansible_ssh_private_key_file": str(state / "key"),
            # Every stand has the same addresses: a connection kept open by one must not serve another.
            "ansible_control_path": str(state / "ssh-%%h-%%r"),
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": " ".join(f"-o {key}={value}" for key, value in ssh_options.items()),
            "torch_extension_python": "/opt/venv",
            # of the known places the stand has few, and a refusal would wait for the others
            "torch_extension_suggest": False,
            "torch_extension_ca_path": str(state / "ca.pem"),
            # The stand's wheels have the names of real ones: they must never get into the user's own cache.
            "torch_extension_cache_dir": str(state / "cache"),
        },
    },
    "_meta": {"hostvars": {name: {"ansible_host": address, "stand_layer": layer} for name, address, layer in nodes}},
}
json.dump(inventory, sys.stdout, indent=2)
print()
