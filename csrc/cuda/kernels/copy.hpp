// Copies of strided arrays, an element a thread.
#pragma once

#include "cuda/kernels/copy_params.hpp"
#include "cuda/kernels/language.hpp"

namespace gdcore::cuda {

template <class T>
GDCORE_DEVICE void copy(const CopyParams<T>& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.size) return;
  int64_t rest = i, to = 0, from = 0;
  for (int dim = p.dims; dim-- > 0;) {
    const int64_t above = rest / p.shape[dim], index = rest - above * p.shape[dim];
    to += index * p.to_strides[dim];
    from += index * p.from_strides[dim];
    rest = above;
  }
  p.to[to] = p.from ? p.from[from] : p.value;
}

GDCORE_DEVICE void write(const WriteParams& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < p.size) p.to[i] = p.values[i];
}

}  // namespace gdcore::cuda
