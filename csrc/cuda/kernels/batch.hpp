// Where a problem of a batch begins.
#pragma once

#include "cuda/kernels/language.hpp"
#include "cuda/kernels/matmul_params.hpp"

namespace gdcore::cuda {

struct ProblemAt {
  int64_t a, b, c;
};

GDCORE_DEVICE ProblemAt problem_at(const BatchDims& batch, int64_t problem) {
  ProblemAt at{0, 0, 0};
  for (int dim = batch.count; dim-- > 0;) {
    const int64_t rest = problem / batch.shape[dim], index = problem - rest * batch.shape[dim];
    at.a += index * batch.a[dim];
    at.b += index * batch.b[dim];
    at.c += index * batch.c[dim];
    problem = rest;
  }
  return at;
}

// The block's number among the blocks of all launches of one operation.
GDCORE_DEVICE int64_t block_from(int64_t first_block) {
  return first_block + static_cast<int64_t>(blockIdx.x);
}

}  // namespace gdcore::cuda
