// One SGD step on every parameter, four parameters a thread.
#pragma once

#include "cuda/kernels/language.hpp"
#include "cuda/kernels/sgd_params.hpp"

namespace gdcore::cuda {

constexpr int sgd_each = 4;

template <class T>
GDCORE_DEVICE void sgd(const SgdParams<T>& p) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (sgd_each * blockDim.x) + threadIdx.x;
  GDCORE_UNROLL
  for (int l = 0; l < sgd_each; ++l) {
    const int64_t i = first + l * static_cast<int64_t>(blockDim.x);
    if (i >= p.n) continue;
    const T grad = p.maximize ? -p.grad[i] : p.grad[i];
    p.param[i] =
        sgd_step<OneNumber<T>>(p.rates, p.param[i], grad, p.velocity ? p.velocity + i : nullptr);
  }
}

}  // namespace gdcore::cuda
