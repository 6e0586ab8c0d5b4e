# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""A forward and a backward pass of a package on a device, against torch's own operators.

The source of this file runs in the interpreter of the environment that is checked (``trial`` hands it over), so it
imports nothing of this collection. One function a package makes its cases; ``CHECKS`` lists them.

The rule is that of flash-attn's own tests: the largest error against torch in float32 is at most twice (for gradients
three times) that which torch itself makes in the package's precision, and ``atol`` more.
"""

from __future__ import annotations

import json
import os
import sys
import time
import typing as t

OUTPUT_FACTOR = 2  # tests/test_flash_attn.py, tests/test_fast_hadamard_transform.py of Dao-AILab
GRADIENT_FACTOR = 3  # tests/test_flash_attn.py

#: What stops the rest of the GPUs from being checked in the same process: CUDA does not recover from every error.
STOPPED = 3


class WrongResultError(Exception):
    """A package computes, but not what torch does."""


class Case(t.NamedTuple):
    """One computation, done three times."""

    what: str
    leaves: list[t.Any]  # tensors; the gradients with respect to them are compared, too
    kernel: t.Callable[..., t.Any]  # the package's, of the leaves
    exact: t.Callable[..., t.Any]  # torch's, of the leaves in float32
    rough: t.Callable[..., t.Any]  # torch's, of the leaves in their own precision
    atol: float


def flash_attn(torch: t.Any, device: str) -> t.Iterator[Case]:
    from flash_attn import flash_attn_func

    scaled_dot_product_attention = torch.nn.functional.scaled_dot_product_attention
    size = 64

    def plain(q: t.Any, k: t.Any, v: t.Any, causal: bool) -> t.Any:
        """By the book, as upstream's attention_ref: torch's own attention may keep float32 in between."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        scores = q @ k.transpose(2, 3) / size**0.5
        if causal:
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=device).triu(1)
            scores = scores.masked_fill(future, float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2)

    def exact(q: t.Any, k: t.Any, v: t.Any, causal: bool) -> t.Any:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)

    for dtype in (torch.float16, torch.bfloat16):
        for causal in (False, True):
            yield Case(
                f"attention in {dtype}{', causal' if causal else ''}",
                [_random_tensor(torch, device, dtype, 2, 128, 4, size) for _name in "qkv"],
                lambda q, k, v, causal=causal: flash_attn_func(q, k, v, causal=causal),
                lambda q, k, v, causal=causal: exact(q, k, v, causal),
                lambda q, k, v, causal=causal: plain(q, k, v, causal),
                1e-4,
            )


def causal_conv1d(torch: t.Any, device: str) -> t.Iterator[Case]:
    from causal_conv1d import causal_conv1d_fn

    width, channels = 4, 64

    def own(x: t.Any, weight: t.Any, bias: t.Any) -> t.Any:
        convolved = torch.nn.functional.conv1d(x, weight.unsqueeze(1), bias, padding=width - 1, groups=channels)
        return torch.nn.functional.silu(convolved[..., : x.shape[-1]])

    # tolerances: tests/test_causal_conv1d.py of Dao-AILab/causal-conv1d
    for dtype, atol in ((torch.float32, 1e-3), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)):
        yield Case(
            f"causal convolution in {dtype}",
            [
                _random_tensor(torch, device, dtype, 2, channels, 128),
                _random_tensor(torch, device, dtype, channels, width),
                _random_tensor(torch, device, dtype, channels),
            ],
            lambda x, weight, bias: causal_conv1d_fn(x, weight, bias, activation="silu"),
            own,
            own,
            atol,
        )


def mamba_ssm(torch: t.Any, device: str) -> t.Iterator[Case]:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn, selective_scan_ref

    batch, channels, length, states = 2, 4, 128, 8
    leaves = [
        _random_tensor(torch, device, torch.float32, batch, channels, length),
        _random_tensor(torch, device, torch.float32, batch, channels, length).detach().abs() / 2,
        -_random_tensor(torch, device, torch.float32, channels, states).detach().abs() / 2,
        _random_tensor(torch, device, torch.float32, batch, states, length),
        _random_tensor(torch, device, torch.float32, batch, states, length),
        _random_tensor(torch, device, torch.float32, channels),
    ]
    yield Case(
        "selective scan in torch.float32",
        [leaf.detach().requires_grad_() for leaf in leaves],
        lambda *inputs: selective_scan_fn(*inputs, delta_softplus=True),
        lambda *inputs: selective_scan_ref(*inputs, delta_softplus=True),
        lambda *inputs: selective_scan_ref(*inputs, delta_softplus=True),
        5e-3,  # tests/ops/test_selective_scan.py of state-spaces/mamba: 2e-3 for the output, up to 5e-3 for gradients
    )


def fast_hadamard_transform(torch: t.Any, device: str) -> t.Iterator[Case]:
    from fast_hadamard_transform import hadamard_transform

    size = 256
    matrix = torch.ones(1, 1)
    while matrix.shape[0] < size:  # Sylvester's construction
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    matrix = matrix.to(device) / size**0.5

    def own(x: t.Any) -> t.Any:
        return x @ matrix.to(x.dtype)

    # tolerances: tests/test_fast_hadamard_transform.py of Dao-AILab/fast-hadamard-transform
    for dtype, atol in ((torch.float32, 3e-3), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)):
        yield Case(
            f"Hadamard transform in {dtype}",
            [_random_tensor(torch, device, dtype, 16, size)],
            lambda x: hadamard_transform(x, scale=size**-0.5),
            own,
            own,
            atol,
        )


def transformer_engine_torch(torch: t.Any, device: str) -> t.Iterator[Case]:
    from transformer_engine.pytorch import Linear

    for dtype, atol in ((torch.float16, 5e-3), (torch.bfloat16, 5e-2)):
        layer = Linear(64, 64, params_dtype=dtype, device=device)
        yield Case(
            f"linear layer in {dtype}",
            [_random_tensor(torch, device, dtype, 32, 64), layer.weight, layer.bias],
            lambda x, weight, bias, layer=layer: layer(x),  # it has weight and bias already
            torch.nn.functional.linear,
            torch.nn.functional.linear,
            atol,
        )


CHECKS: dict[str, t.Callable[[t.Any, str], t.Iterator[Case]]] = {
    "flash-attn": flash_attn,
    "causal-conv1d": causal_conv1d,
    "mamba-ssm": mamba_ssm,
    "fast-hadamard-transform": fast_hadamard_transform,
    "transformer-engine-torch": transformer_engine_torch,
}


def _random_tensor(torch: t.Any, device: str, dtype: t.Any, *shape: int) -> t.Any:
    """The same numbers on every device: they are drawn on the CPU."""
    return torch.randn(*shape).to(device=device, dtype=dtype).requires_grad_()


def worst_error(torch: t.Any, case: Case) -> float:
    """The largest error of a case, in proportion where values are above 1.

    :raises WrongResultError: if one is larger than the rule allows
    """
    precise = [leaf.detach().float().requires_grad_() for leaf in case.leaves]
    direction = None
    results = []
    for function, leaves in ((case.kernel, case.leaves), (case.exact, precise), (case.rough, case.leaves)):
        out = function(*leaves)
        if direction is None:
            direction = torch.randn(*out.shape).to(out.device)
        gradients = torch.autograd.grad(out, leaves, direction.to(out.dtype))
        results.append([tensor.detach().double() for tensor in (out, *gradients)])
    worst = 0.0
    for index, (actual, expected, rough) in enumerate(zip(*results)):
        scale = max(1.0, expected.abs().max().item())
        error, rough_error = ((tensor - expected).abs().max().item() / scale for tensor in (actual, rough))
        limit = (GRADIENT_FACTOR if index else OUTPUT_FACTOR) * rough_error + case.atol
        if not error <= limit:  # so that it holds for NaN, too
            tensor_name = f"gradient {index}" if index else "the output"
            raise WrongResultError(f"{case.what}: {tensor_name} is wrong by {error:.3g}, allowed is {limit:.3g}")
        worst = max(worst, error)
    return worst


def check_package(torch: t.Any, package: str, device: str) -> dict[str, t.Any]:
    """Check a package on a device: ``seconds``, ``max_error`` and ``failure``, which is null where all is well."""
    torch.manual_seed(0)
    start = time.monotonic()
    try:
        if device != "cpu":
            torch.cuda.set_device(device)
        error = max(worst_error(torch, case) for case in CHECKS[package](torch, device))
        if device != "cpu":
            torch.cuda.synchronize(device)
    except WrongResultError as exc:
        return {"seconds": None, "max_error": None, "failure": str(exc)}
    except Exception as exc:
        lines = f"{type(exc).__name__}: {exc}".splitlines()  # CUDA's further lines are advice for programmers
        return {"seconds": None, "max_error": None, "failure": lines[0].rstrip(".")}
    return {"seconds": round(time.monotonic() - start, 3), "max_error": error, "failure": None}


def describe_device(torch: t.Any, device: str) -> dict[str, t.Any]:
    """A device: ``device``, ``name`` and ``compute_capability``."""
    if device == "cpu":
        return {"device": device, "name": "CPU", "compute_capability": None}
    capability = "{}.{}".format(*torch.cuda.get_device_capability(device))
    return {"device": device, "name": torch.cuda.get_device_name(device), "compute_capability": capability}


def main(folder: str, package: str, first: str, *devices: str) -> int:
    """Write the devices, then the result of each from the ``first`` on, each in a line of JSON, up to one that fails."""
    if sys.path and not sys.path[0]:
        del sys.path[0]  # the working directory, in which anything may lie
    sys.path[:0] = [folder] if folder else []
    os.environ["CUDA_CACHE_DISABLE"] = "1"  # what the driver compiles would be kept in the user's home
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 shall be that
    if not devices:
        torch.cuda.init()  # tells why there is none
        devices = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    _write_line({"devices": [describe_device(torch, device) for device in devices]})
    for device in devices[int(first) :]:
        result = check_package(torch, package, device)
        _write_line({"result": result})
        if result["failure"]:
            return STOPPED
    return 0


def _write_line(line: t.Mapping[str, t.Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
