// Long sums: each piece of partials is added in order, its first partial taken as it is.
#pragma once

#include "cuda/kernels/batch.hpp"
#include "cuda/kernels/partials_params.hpp"

namespace gdcore::cuda {

template <class T>
GDCORE_DEVICE T* sum_at(const PartialsParams<T>& p, int64_t piece, int64_t element) {
  if (p.sums) return p.sums + piece * p.width + element;
  const int64_t problem = element / (p.m * p.n), within = element - problem * (p.m * p.n);
  const int64_t i = within / p.n, j = within - i * p.n;
  return p.c.data + problem_at(p.batch, problem).c + i * p.c.rs + j * p.c.cs;
}

// A thread adds a piece of one element: neighbours read neighbouring partials.
template <class T>
GDCORE_DEVICE void add_partials(const PartialsParams<T>& p) {
  const int64_t task = block_from(p.first_block) * blockDim.x + threadIdx.x;
  const int64_t piece = task / p.width, element = task - piece * p.width, first = piece * p.piece;
  if (first >= p.count) return;
  const int64_t left = p.count - first, count = left < p.piece ? left : p.piece;
  const T* const partials = p.partials + first * p.width + element;
  T sum = partials[0];
#pragma unroll 16
  for (int64_t i = 1; i < count; ++i) sum += partials[i * p.width];
  *sum_at(p, piece, element) = sum;
}

// The sum of `count` > 0 partials that are `stride` apart, in the first of a warp's threads. The
// warp reads 512 at a time, since a thread that reads as it adds would wait for each.
template <class T>
GDCORE_DEVICE T sum_by_warp(const T* partials, int64_t count, int64_t stride, T* shared) {
  constexpr int block = 512;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  T sum = T(0);
  for (int64_t first = 0; first < count; first += block) {
    const int now = static_cast<int>(count - first < block ? count - first : block);
    __syncwarp();
#pragma unroll 16
    for (int i = lane; i < now; i += 32) shared[i] = partials[(first + i) * stride];
    __syncwarp();
    if (lane > 0) continue;
    if (first == 0) sum = shared[0];
#pragma unroll 16
    for (int i = first == 0; i < now; ++i) sum += shared[i];
  }
  return sum;
}

// A block of one warp adds a piece of one element.
template <class T>
GDCORE_DEVICE void add_few_partials(const PartialsParams<T>& p) {
  T* const shared = reinterpret_cast<T*>(shared_memory(512 * sizeof(T)));
  const int64_t task = block_from(p.first_block);
  const int64_t piece = task / p.width, element = task - piece * p.width, first = piece * p.piece;
  const int64_t left = p.count - first, count = left < p.piece ? left : p.piece;
  const T sum = sum_by_warp(p.partials + first * p.width + element, count, p.width, shared);
  if (threadIdx.x == 0) *sum_at(p, piece, element) = sum;
}

}  // namespace gdcore::cuda
