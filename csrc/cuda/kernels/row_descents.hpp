// Descents on rows of one target: a block a problem, all its epochs without the host.
#pragma once

#include "cuda/kernels/block_descents.hpp"
#include "cuda/kernels/rows.hpp"

namespace gdcore::cuda {

struct RowInOrder {
  const int64_t* order;
  GDCORE_DEVICE int64_t operator()(int64_t position) const {
    return order ? order[position] : position;
  }
};

// Adds all rows, at most 512 segments: the partials of each entry are one chain. sums: (d + 3), see
// add_segment.
template <class T>
GDCORE_DEVICE void sum_rows(const DescentRows<T>& problem, const T* w, const RowsShared<T>& s,
                            double* sums) {
  const int d = problem.rows.d;
  for (int e = static_cast<int>(threadIdx.x); e < d + 3; e += static_cast<int>(blockDim.x))
    sums[e] = 0.0;
  const T* const intercept = problem.fit_intercept ? w + d : nullptr;
  for (int64_t begin = 0; begin < problem.n; begin += L<T>) {
    const int64_t left = problem.n - begin;
    add_segment(problem.rows, RowInOrder{problem.order}, begin,
                static_cast<int>(left < L<T> ? left : L<T>), w, intercept, s,
                [&](int entry, double partial) { sums[entry] += partial; });
  }
}

template <class T>
GDCORE_DEVICE void descend_rows(const RowDescents<T>& p) {
  const DescentRows<T>& problem = p.rows[blockIdx.x];
  const int d = problem.rows.d;
  unsigned char* const at = shared_memory(row_descent_bytes<T>(d, p.tile_rows));
  const DescentVectors<T> vectors = descent_vectors<T>(at, d + 3);  // as many as sums
  const RowsShared<T> s = rows_shared<T>(at + vectors_bytes<T>(d + 3), d, p.tile_rows);
  descend_by_block(p.columns, d + (problem.fit_intercept ? 1 : 0), vectors,
                   [&](const DescentVectors<T>& v) {
                     sum_rows(problem, v.w, s, v.sums);
                     return v.sums[d + 1];
                   });
}

}  // namespace gdcore::cuda
