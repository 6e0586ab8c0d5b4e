// SPDX-License-Identifier: GPL-3.0-or-later
// A small extension under the name of causal-conv1d's, with the same arguments. It computes with ATen, on the GPU with a kernel
// of its own. TORCH_CHECK throws c10::Error, whose constructor's symbol differs between the two C++ ABIs. torch/extension.h would
// take half a minute of a core.
#include <Python.h>

#include <ATen/ops/conv1d.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/silu.h>
#include <torch/library.h>

#include "causal_conv1d.h"

static at::Tensor causal_conv1d_fwd(const at::Tensor &x, const at::Tensor &weight, const std::optional<at::Tensor> &bias, bool silu) {
  TORCH_CHECK(x.dim() == 3, "x must have the shape (batch, channels, length)");
  const auto channels = x.size(1), length = x.size(2), width = weight.size(1);
  at::Tensor y;
  if (x.is_cuda()) {
    TORCH_CHECK(x.size(0) == 1 && x.scalar_type() == at::kFloat, "on the GPU this one computes a batch of 1 in float32");
    const auto in = x.contiguous(), w = weight.contiguous();
    y = at::empty_like(in);
    const char *error =
        convolve(in.const_data_ptr<float>(), w.const_data_ptr<float>(), y.mutable_data_ptr<float>(), channels, length, width);
    TORCH_CHECK(!error, error);
    if (bias) y = y.add(bias->unsqueeze(1));
  } else {
    y = at::conv1d(x, weight.unsqueeze(1), bias, 1, width - 1, 1, channels).slice(2, 0, length);
  }
  return silu ? at::silu(y) : y;
}

TORCH_LIBRARY(causal_conv1d, m) { m.def("fwd(Tensor x, Tensor weight, Tensor? bias, bool silu) -> Tensor", &causal_conv1d_fwd); }

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "causal_conv1d_cuda", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_causal_conv1d_cuda() { return PyModule_Create(&module); }
