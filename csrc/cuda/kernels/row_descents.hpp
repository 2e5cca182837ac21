// Descents on rows of one target: a block a problem, all its epochs without the host.
#pragma once

#include "cuda/kernels/descents.hpp"
#include "cuda/kernels/rows.hpp"

namespace gdcore::cuda {

struct RowInOrder {
  const int64_t* order;
  GDCORE_DEVICE int64_t operator()(int64_t position) const {
    return order ? order[position] : position;
  }
};

// Shared memory of the block behind that of add_segment.
template <class T>
struct DescentShared {
  double *sums, *entries;  // (d + 3): of the rows; (d + 1): of the gradient, then what has changed
  RowsShared<T> rows;
  T *w, *velocity, *before, *gradient;  // (d + 1) each
};
template <class T>
GDCORE_DEVICE DescentShared<T> descent_shared(int d, int tile_rows) {
  unsigned char* at = shared_memory(descent_bytes<T>(d, tile_rows));
  DescentShared<T> s;
  s.sums = reinterpret_cast<double*>(at);
  s.entries = s.sums + d + 3;
  at += sizeof(double) * static_cast<size_t>(descent_doubles(d));
  s.rows = rows_shared<T>(at, d, tile_rows);
  s.w = reinterpret_cast<T*>(at + rows_bytes<T>(d, tile_rows));
  s.velocity = s.w + d + 1;
  s.before = s.velocity + d + 1;
  s.gradient = s.before + d + 1;
  return s;
}

// The sums over all rows at the parameters, up to 512 segments: their partials are one chain. Each
// entry is a thread's, the same for all segments.
template <class T>
GDCORE_DEVICE void sum_rows(const DescentRows<T>& problem, const DescentShared<T>& s) {
  const int d = problem.rows.d;
  for (int e = static_cast<int>(threadIdx.x); e < d + 3; e += static_cast<int>(blockDim.x))
    s.sums[e] = 0.0;
  const T* const intercept = problem.fit_intercept ? s.w + d : nullptr;
  for (int64_t begin = 0; begin < problem.n; begin += L<T>) {
    const int64_t left = problem.n - begin;
    add_segment(problem.rows, RowInOrder{problem.order}, begin,
                static_cast<int>(left < L<T> ? left : L<T>), s.w, intercept, s.rows,
                [&](int entry, double partial) { s.sums[entry] += partial; });
  }
}

// All threads follow the descent with the same numbers; each steps the parameters that are its own.
template <class T>
GDCORE_DEVICE void descend_rows(const RowDescents<T>& p) {
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const DescentRows<T>& problem = p.rows[blockIdx.x];
  const int d = problem.rows.d, size = d + (problem.fit_intercept ? 1 : 0);
  const DescentShared<T> s = descent_shared<T>(d, p.tile_rows);
  OneDescent<T> descent(p.columns, blockIdx.x);
  for (int j = t; j < size; j += threads) {
    s.before[j] = s.w[j] = descent.param(j);
    s.velocity[j] = descent.velocity(j);
  }
  while (descent.measures()) {
    sum_rows(problem, s);
    for (int j = t; j < size; j += threads) {
      s.gradient[j] = descent.gradient(s.sums[j]);
      s.entries[j] = descent.entry(j, s.gradient[j], s.w[j]);
    }
    __syncthreads();
    double norm_squares = 0;
    for (int j = 0; j < size; ++j) norm_squares = norm_squares + s.entries[j] * s.entries[j];
    const bool stops = descent.stops(s.sums[d + 1], norm_squares);
    if (stops) break;
    __syncthreads();  // the entries have been read
    for (int j = t; j < size; j += threads) {
      s.before[j] = s.w[j];
      const bool changed = descent.step(j, s.gradient[j], s.w[j], s.velocity[j]);
      s.entries[j] = changed ? 1.0 : 0.0;
    }
    __syncthreads();
    bool changed = false;
    for (int j = 0; j < size; ++j) changed = changed || s.entries[j] != 0.0;
    descent.end_epoch(changed);
    if (!descent.records()) continue;
    if (t == 0) descent.record_loss();
    for (int j = t; j < size; j += threads) descent.record_param(j, size, s.w[j]);
    descent.end_record();
  }
  for (int j = t; j < size; j += threads) descent.keep_param(j, s.w[j], s.velocity[j], s.before[j]);
  if (t == 0) descent.keep();
}

}  // namespace gdcore::cuda
