# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""Prove that packages work: import them, and have them compute on each GPU. Nothing is written."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import time
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.names import canonical
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.types import Run
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.json_text import parse_json
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node import limits
from ansible_collections.airgap.torch_extensions.plugins.module_utils._node.self_description import MARK

AUTO, GPU, IMPORT, NONE = "auto", "gpu", "import", "none"
METHODS = [AUTO, GPU, IMPORT, NONE]

_SECONDS = 300  # for all GPUs of a node; a GPU that fell off the bus makes programs hang for ever
_KILLED = (137, -9)

# sys.path[0] is the working directory, in which anything may lie. A scratch folder goes where what it holds will be: right before the
# folder of packages. Of an import of torch, looking for garbage takes a fifth of the time, most of it at the end: what is frozen is not
# looked at.
_IMPORT = """
import gc, importlib, os, sys
gc.disable()
mark, folder, target, *names = sys.argv[1:]
if sys.path and not sys.path[0]:
    del sys.path[0]
if folder:
    places = [place for place, known in enumerate(sys.path) if os.path.realpath(known) == os.path.realpath(target)]
    sys.path.insert(places[0] if places else 0, folder)
for name in names:
    importlib.import_module(name)
for name in names:
    module = sys.modules[name.partition(".")[0]]
    print(mark + ascii(getattr(module, "__file__", None) or next(iter(module.__path__))))
gc.freeze()
"""

#: What error messages of CUDA, torch and the packages mean for an operator.
_MEANINGS = (
    (
        "no kernel image is available",
        "it has no code for this GPU: take another version, or a build from another source",
    ),
    ("driver on your system is too old", "torch is for a newer CUDA than the driver serves: upgrade the driver"),
    ("driver version is insufficient", "torch is for a newer CUDA than the driver serves: upgrade the driver"),
    ("out of memory", "others use this GPU's memory: try again when it is free"),
    ("not compiled with CUDA", "this torch is built for the CPU only: install one for CUDA"),
    ("No CUDA GPUs are available", "torch sees none: look at the driver, and at CUDA_VISIBLE_DEVICES"),
    ("Found no NVIDIA driver", "torch sees none: look at the driver"),
)


def resolve_method(method: str, gpus: t.Sequence[t.Any] | None, devices: t.Sequence[str] = ()) -> str:
    """How to verify on a node: gpu, import or none.

    :param method: the requested one of ``METHODS``
    :param gpus: as torch_info returns them; None where that is not known
    :param devices: those to check on instead, if any
    :raises TorchExtensionError: if GPUs are requested and there is none
    """
    if method == AUTO:
        return GPU if gpus or devices else IMPORT
    if method == GPU and not gpus and not devices:
        answer = "does not answer" if gpus is None else "names no GPU"
        raise TorchExtensionError(
            f"verify is gpu, and nvidia-smi {answer} on this node. Nothing was changed. Set torch_extension_verify (option"
            " verify) to auto or import, or repair the driver."
        )
    return method


def has_check(name: str) -> bool:
    """Whether there is a check of a package on a GPU; without one it is imported and no more."""
    return canonical(name) in _import_gpu_check().CHECKS


class Imported(t.NamedTuple):
    """The outcome of an import: both are None where all is well."""

    failure: str | None  # in the interpreter's own last words
    foreign: str | None  # a file that one of the modules came from, which is not where it should


def try_import(
    environment: t.Mapping[str, t.Any],
    modules: t.Sequence[str],
    run: Run,
    folder: str = "",
    expected: str | None = None,
) -> Imported:
    """Import modules.

    :param environment: as torch_info describes it
    :param folder: one whose content is to be put into the environment's folder of packages: they are imported as if it were there
    :param expected: the folder that they are to come from; with ``folder`` that one, and else any by default
    """
    python = environment["python"]
    status, out, err = run(
        [python["executable"], "-B", "-c", _IMPORT, MARK, folder, python["site_packages"] or "", *modules]
    )
    if status != 0:
        return Imported(_last_words(status, out, err), None)
    expected = expected or folder
    files = [ast.literal_eval(line[len(MARK) :]) for line in out.splitlines() if line.startswith(MARK)]
    foreign = [file for file in files if expected and not _is_below(file, expected)]
    return Imported(None, foreign[0] if foreign else None)


def _is_below(file: str, folder: str) -> bool:
    return os.path.realpath(file).startswith(os.path.realpath(folder) + os.sep)


def check_on_gpus(
    executable: str, name: str, run: Run, folder: str = "", devices: t.Sequence[str] = ()
) -> list[dict[str, t.Any]]:
    """Check a package on each GPU, forward and backward; one result a GPU, in the order of torch.

    :param name: of the package, one that :func:`has_check`
    :param folder: a folder to import it from, before the environment's own
    :param devices: torch's names of the devices to check on; all GPUs that torch sees if there are none
    :returns: ``device``, ``name``, ``compute_capability``, ``seconds``, ``max_error`` and ``failure``, null where all is
        well. A failure before there is any device has null for these.
    """
    # a real file, for linters and readers; the loader has its text also where modules come in an archive
    module = _import_gpu_check()
    source = module.__spec__.loader.get_source(module.__name__)
    timeout = shutil.which("timeout")
    command = [timeout, "-k", "5", str(_SECONDS)] if timeout else []
    command += [executable, "-B", "-c", source, folder, canonical(name)]
    no_values = {"seconds": None, "max_error": None}
    results: list[dict[str, t.Any]] = []
    while True:  # a process ends with the first GPU that fails, so the next one takes the rest
        begin = time.monotonic()
        status, out, err = run([*command, str(len(results)), *devices])
        is_timed_out = status == 124 or (status in _KILLED and time.monotonic() - begin >= _SECONDS)
        parsed = list(_parse_results(out))
        all_devices = next((answer["devices"] for answer in parsed if "devices" in answer), None)
        if all_devices is None:
            no_device = {"device": None, "name": None, "compute_capability": None}
            return [*results, {**no_device, **no_values, "failure": _last_words(status, out, err, is_timed_out)}]
        new_results = [answer["result"] for answer in parsed if "result" in answer]
        if len(results) + len(new_results) < len(all_devices) and not (new_results and new_results[-1]["failure"]):
            new_results.append({**no_values, "failure": _last_words(status, "", err, is_timed_out)})
        results += [{**device, **result} for device, result in zip(all_devices[len(results) :], new_results)]
        if len(results) >= len(all_devices):
            return results


def _import_gpu_check() -> t.Any:
    # a node compiles what it imports each time, and those without GPUs need none of this
    from ansible_collections.airgap.torch_extensions.plugins.module_utils._verify import gpu_check

    return gpu_check


def find_meaning(failure: str) -> str | None:
    """What an error message of CUDA, torch or a package means for an operator, and what to do; None for one that is not known."""
    return next((meaning for words, meaning in _MEANINGS if words in failure), None)


def explain_failure(result: t.Mapping[str, t.Any]) -> str:
    """What failed on which GPU, and what that means, without a full stop."""
    gpu = "any GPU"
    if result["device"] is not None:
        capability = f", compute capability {result['compute_capability']}" if result["compute_capability"] else ""
        gpu = f"{result['device']} ({result['name']}{capability})"
    meaning = find_meaning(result["failure"])
    return f"does not work on {gpu}: {result['failure']}{f' ({meaning})' if meaning else ''}"


def _parse_results(out: str) -> t.Iterator[dict[str, t.Any]]:
    """The lines of the check itself: packages print, too."""
    for line in out.splitlines():
        if line.startswith(('{"devices":', '{"result":')):
            with contextlib.suppress(ValueError):
                yield parse_json(line)


def _last_words(status: int, out: str, err: str, is_timed_out: bool = False) -> str:
    if is_timed_out:
        return f"no answer within {_SECONDS} s"
    is_ended = status < 0 or status > 128  # by a signal; the second is what the program timeout makes of it
    words = "" if is_ended else limits.last_words(err, out)
    words = words or f"it {limits.describe_end(status)}"
    limit = limits.explain_limit(words, is_here=True)
    return f"{words} ({limit})" if limit else words
