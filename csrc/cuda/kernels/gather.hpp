// Copies rows of a matrix, in an order, standardised or as they are.
#pragma once

#include "cuda/kernels/gather_params.hpp"
#include "cuda/kernels/language.hpp"

namespace gdcore::cuda {

// A thread an element.
template <class T>
GDCORE_DEVICE void gather(const GatherParams<T>& p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= p.rows * p.columns) return;
  const int64_t i = index / p.columns, j = index % p.columns;
  const int64_t row = p.row_numbers ? p.row_numbers[i] : p.order(p.first + i);
  const T x = p.in[row * p.rs + j * p.cs];
  p.out[index] = p.means ? static_cast<T>((static_cast<double>(x) - p.means[j]) * p.factors[j]) : x;
}

}  // namespace gdcore::cuda
