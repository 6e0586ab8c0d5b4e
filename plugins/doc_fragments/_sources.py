# Copyright (c) the airgap.torch_extensions authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  source:
    description:
      - Where wheels come from, in this order; the first that has one that fits answers. Each is a word, or a word and a place.
      - V(release) is what the project's own release on GitHub really holds, as GitHub's API tells it, with size and, for files
        uploaded since June 2025, SHA-256. If the API cannot be asked, the last answer serves, with a warning.
      - V(github:OWNER/NAME) is all releases of a repository of others. A wheel whose name tells no C++11 ABI counts as built for
        torch as the package index has it.
      - V(index:URL) is an index (PEP 503, PEP 691), its page for the package, or any page with links to wheels.
      - V(directory:PATH) is a folder on the control node.
      - V(bundle:PATH) is a folder or tar that M(airgap.torch_extensions.wheel_bundle) has made.
      - V(astral), V(pytorch), V(cosmos), V(unsloth), V(mjun0812), V(pyg), V(natten) and V(lesj0610) are known places, each asked for
        what it has for torch and CUDA of the node. V(known) is all of them that the collection trusts for the package, the projects'
        own releases first. C(docs/choosing.md) tells who publishes there, and what vouches for the files.
      - V(guess) is the URL that C(setup.py) of this very version would guess, without network. It is faithful, upstream's
        mistakes included; RV(airgap.torch_extensions.wheel#lookup:_list[].conflicts) tells where such a wheel
        cannot work. It does not know whether the file exists, and it needs a requirement that pins one version.
      - V(build) is asked last, whatever stands behind it, where nothing else fits; it means a wheel that was built for nodes like this one
        (M(airgap.torch_extensions.wheel_build)), else one that has to be built, of the newest sdist that O(source) V(directory:PATH) or the
        index of the control node's own pip has. That one has no URL yet.
    type: list
    elements: str
    default: [release]
  build_archs:
    description:
      - With O(source) V(build), the GPU architectures that a wheel has to be for, such as V(9.0), V(9.0a) or V(12.0+PTX) with code that the
        driver can translate for newer GPUs. Without it, those of the node's own GPUs.
    type: list
    elements: str
    default: []
  place_urls:
    description:
      - Mirrors of known places by name, as in V({'astral':'https://mirror.example/astral'}), for those that are no repositories on
        GitHub. The paths below are the place's own.
    type: dict
    default: {}
  suggest:
    description:
      - Whether, where nothing fits, the other known places are asked what they have for the node. The refusal names them then, and
        what to write to take a wheel from there. Only their listings are asked, and METADATA of wheels that
        may fit.
    type: bool
    default: true
  upgrade:
    description:
      - Whether a requirement that pins no version takes the newest version that has a wheel that fits, also where an older one that
        meets it and fits this torch is installed. Without it, that one stays, as with pip, and no O(source) is asked.
    type: bool
    default: false
  lock:
    description:
      - Path of a lock on the control node, as M(airgap.torch_extensions.wheel_lock) writes it. With it, nothing is asked; what is not
        in it is refused, and O(source) does not count.
    type: path
  github_url:
    description:
      - Where GitHub is, or a mirror of it with the same paths, also one that takes the whole address behind its own
        (V(https://mirror.example/https://github.com)).
      - Credentials do not belong here. Put them in C(~/.netrc) of the control node, under the host's name. They are sent over TLS alone.
    type: str
    default: https://github.com
  github_api_url:
    description:
      - Where GitHub's API is, or that of a GitHub Enterprise (V(https://ghe.example/api/v3)) or a mirror.
    type: str
    default: https://api.github.com
  github_token:
    description:
      - A token for the API, which raises its limit of requests. It needs no permissions. It is sent to the host of O(github_api_url)
        alone, over TLS or within the control node.
      - When empty, the environment variable C(GITHUB_TOKEN) of C(ansible-playbook) counts.
    type: str
    default: ""
  max_age:
    description:
      - For how many seconds an answer serves before the place is asked again. An older one is still used, with a warning, where
        the place cannot be asked.
    type: int
    default: 600
  sha256:
    description:
      - Known SHA-256 hashes of wheels, by file name; or by URL, where two places have files of one name. One that contradicts the
        O(source) is a conflict.
    type: dict
    default: {}
  require_sha256:
    description:
      - Whether a wheel whose hash neither its source nor O(sha256) tells is a conflict.
    type: bool
    default: false
  match:
    description:
      - V(exact) takes wheels alone of which name, address or METADATA say that they are for the node's torch.
      - With V(proven), a wheel of which nobody says for which torch it is may be taken, too, and, where no O(source) has one that
        fits, a wheel for another minor version of torch, of the same CUDA, C++ ABI, Python and platform; both only when the node has
        shown that it has all that the binaries in it need. Up to eight are considered; the newest version first, and for the nearest
        torch, an older one before a newer one. Each costs a download to the control node. What is installed already comes first.
    type: str
    choices: [exact, proven]
    default: proven
"""
