// How many rows are not 0 in each column.
#pragma once

#include "cuda/kernels/counts_params.hpp"
#include "cuda/kernels/language.hpp"

namespace gdcore::cuda {

template <class T>
GDCORE_DEVICE int64_t count_in_column(const CountParams<T>& p, int64_t column, int64_t first,
                                      int64_t end, int step) {
  int64_t count = 0;
  for (int64_t i = first; i < end; i += step) {
    if (p.weight.data && !(p.weight.data[i * p.weight.stride] > T(0))) continue;
    const T base = p.base.data ? p.base.data[i * p.base.rs + column * p.base.cs] : T(0);
    count += p.values.data[i * p.values.rs + column * p.values.cs] != base;
  }
  return count;
}

template <class T>
GDCORE_DEVICE void count_nonzero(const CountParams<T>& p) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % p.width, group = thread / p.width, groups = count_threads / p.width;
  const int64_t part = static_cast<int64_t>(blockIdx.x) / p.tiles;
  const int64_t column = static_cast<int64_t>(blockIdx.x) % p.tiles * p.width + lane;
  const int64_t begin = part * p.rows_per_block;
  const int64_t end = begin + p.rows_per_block < p.n ? begin + p.rows_per_block : p.n;
  auto* const counts = reinterpret_cast<int64_t*>(
      shared_memory(sizeof(int64_t) * static_cast<size_t>(count_threads)));
  const bool is_there = column < p.columns;
  counts[thread] = is_there ? count_in_column(p, column, begin + group, end, groups) : 0;
  __syncthreads();
  if (group != 0 || !is_there) return;
  int64_t total = 0;
  for (int g = 0; g < groups; ++g) total += counts[g * p.width + lane];
  p.counts[part * p.columns + column] = total;
}

}  // namespace gdcore::cuda
