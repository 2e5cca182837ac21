// What the kernels that add partials take.
#pragma once

#include "cuda/kernels/matmul_params.hpp"

namespace gdcore::cuda {

// partials (count, width) become sums (pieces, width), each of `piece` partials at most, or,
// of one piece, the elements of a product.
template <class T>
struct PartialsParams {
  const T* partials;
  int64_t count, width, piece;
  T* sums;  // null: the elements of c
  int64_t m, n;
  Result<T> c;
  BatchDims batch;
  int64_t first_block;
};

}  // namespace gdcore::cuda
