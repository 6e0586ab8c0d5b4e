#!/usr/bin/python

# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_pull
short_description: Fetch files from a server inside the gap
version_added: 0.1.0
description:
  - Has a node fetch files from an HTTP(S) server that it reaches, into a folder of its own.
  - A file has its name there once all of it is there and has its SHA-256. What a fetch that was cut off has brought stays beside it
    under a hidden name, and the next one goes on from there (C(Range)).
  - A connection that is cut, one that brings nothing for 60 seconds or less than 60 KiB in a minute, one that does not answer within two
    minutes, and a server that is out of order are tried again with growing pauses, until five tries in a row have brought less than 60 KiB.
  - Credentials are those that C(~/.netrc) of the user has for the server; they are sent over TLS alone. Where it redirects to
    another host, that one gets what C(~/.netrc) has for it by name. Proxies are those of the environment.
  - The module needs nothing but Python.
author:
  - The airgap.torch_extensions authors (@airgap-torch-extensions)
extends_documentation_fragment:
  - airgap.torch_extensions._trusted_owners
  - airgap.torch_extensions._attributes
attributes:
  diff_mode:
    support: none
options:
  url:
    description:
      - The folder on the server, in which the files have their own names.
    type: str
    required: true
  files:
    description: What to fetch.
    type: list
    elements: dict
    required: true
    suboptions:
      filename:
        description: Name of the file.
        type: str
        required: true
      sha256:
        description: Its SHA-256, in hexadecimal.
        type: str
        required: true
      size:
        description: Its size in bytes.
        type: int
        required: true
  folder:
    description:
      - Where to put them. It is made for the user alone if it is not there; one that others may write to is refused. It is
        removed if it is empty in the end.
    type: path
    required: true
  ca:
    description:
      - Certificates of CAs (PEM) to trust instead of the system's.
    type: str
seealso:
  - module: airgap.torch_extensions.torch_extension
"""

EXAMPLES = r"""
- name: Fetch a wheel from the site's own server
  airgap.torch_extensions.wheel_pull:
    url: https://artifacts.example/wheels/
    files:
      - filename: flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl
        sha256: 5a176a05896352709d5ac3ed9b5ac2ff1d2c2ae7a5e5a3d9a4ba0a52b9f4a1c6
        size: 256043611
    folder: ~/wheels
    ca: "{{ lookup('ansible.builtin.file', '/etc/pki/site-ca.pem') }}"
  register: pulled
"""

RETURN = r"""
folder:
  description: The folder, as a path without links.
  returned: success
  type: str
  sample: /root/wheels
pulled:
  description: Names of the files that were fetched, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl]
missing:
  description: Names of the files that the server does not have. In check mode it is not asked.
  returned: success
  type: list
  elements: str
  sample: []
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery import pull, staging
from ansible_collections.airgap.torch_extensions.plugins.module_utils._delivery.server import build_opener, check_url
from ansible_collections.airgap.torch_extensions.plugins.module_utils._wheels import wheel_file


def main():
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "filename": {"type": "str", "required": True},
                    "sha256": {"type": "str", "required": True},
                    "size": {"type": "int", "required": True},
                },
            },
            "folder": {"type": "path", "required": True},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
            "ca": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        result = _run(module)
    except TorchExtensionError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


def _run(module):
    url = check_url(module.params["url"])
    files = [pull.RemoteFile(file["filename"], file["sha256"].lower(), file["size"]) for file in module.params["files"]]
    for file in files:
        wheel_file.parse_name(file.filename)  # no path, above all
    if module.check_mode:
        folder = os.path.realpath(module.params["folder"])
        outcomes = {file.filename: pull.PRESENT if pull.is_present(folder, file) else pull.PULLED for file in files}
    else:
        folder = pull.make_folder(module.params["folder"], module.params["trusted_owners"])
        try:
            puller = pull.Puller(url, folder, build_opener(module.params["ca"]))
            outcomes = {file.filename: puller.pull(file) for file in files}
        finally:
            staging.clear_staged(folder, [], module.params["trusted_owners"])  # if nothing has come
    pulled, missing = (
        [name for name, each in outcomes.items() if each == what] for what in (pull.PULLED, pull.MISSING)
    )
    return {"changed": bool(pulled), "folder": folder, "pulled": pulled, "missing": missing}


if __name__ == "__main__":
    main()
