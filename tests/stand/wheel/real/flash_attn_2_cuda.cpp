// SPDX-License-Identifier: GPL-3.0-or-later
// A small torch extension under the name of flash-attn's: attention on the CPU, written with ATen. TORCH_CHECK throws
// c10::Error, whose constructor's symbol differs between the two C++ ABIs: a wheel of the wrong ABI cannot be imported.
// STAND_WRONG makes one that loads, and computes something else.
#include <torch/extension.h>

#include <cmath>
#include <limits>
#include <vector>

static at::Tensor heads_first(const at::Tensor &t) { return t.transpose(1, 2); }

static double scale(const at::Tensor &q) {
#ifdef STAND_WRONG
  return 0.9 / std::sqrt(double(q.size(3)));
#else
  return 1 / std::sqrt(double(q.size(3)));
#endif
}

static at::Tensor weights(const at::Tensor &q, const at::Tensor &k, bool causal) {
  auto scores = at::matmul(heads_first(q), heads_first(k).transpose(2, 3)) * scale(q);
  if (causal) {
    auto future = at::ones({q.size(1), k.size(1)}, scores.options().dtype(at::kBool)).triu(1);
    scores = scores.masked_fill(future, -std::numeric_limits<double>::infinity());
  }
  return at::softmax(scores, -1);
}

static at::Tensor fwd(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v, bool causal) {
  TORCH_CHECK(q.dim() == 4, "q must have the shape (batch, length, heads, size)");
  return heads_first(at::matmul(weights(q, k, causal), heads_first(v)));
}

static std::vector<at::Tensor> bwd(const at::Tensor &dout, const at::Tensor &q, const at::Tensor &k,
                                   const at::Tensor &v, bool causal) {
  auto p = weights(q, k, causal), g = heads_first(dout);
  auto dp = at::matmul(g, heads_first(v).transpose(2, 3));
  auto ds = p * (dp - (p * dp).sum(-1, true)) * scale(q);
  return {heads_first(at::matmul(ds, heads_first(k))), heads_first(at::matmul(ds.transpose(2, 3), heads_first(q))),
          heads_first(at::matmul(p.transpose(2, 3), g))};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("fwd", &fwd, pybind11::arg("q"), pybind11::arg("k"), pybind11::arg("v"), pybind11::arg("causal") = false);
  m.def("bwd", &bwd);
}
