// Products with one column: a dot product over lanes for each row, cut into segments.
#pragma once

#include "cuda/kernels/batch.hpp"
#include "cuda/kernels/lanes.hpp"

namespace gdcore::cuda {

// The segment of a row.
template <class T>
struct MatvecTask {
  bool exists = false;
  const T *a, *x;
  T* to;
  int terms = 0;

  // task: rows of all problems, for each segment.
  GDCORE_DEVICE MatvecTask(const MatvecParams<T>& p, int64_t task) {
    const int64_t rows = p.batch.problems * p.m;
    const int64_t segment = task / rows, row = task - segment * rows;
    if (segment >= p.segments) return;
    const int64_t problem = row / p.m, i = row - problem * p.m, first = segment * L<T>;
    const ProblemAt at = problem_at(p.batch, problem);
    a = p.a + at.a + i * p.a_rs + first * p.a_cs;
    x = p.x + at.b + first * p.x_stride;
    to = p.segments > 1 ? p.partials + task : p.c + at.c + i * p.c_rs;
    terms = static_cast<int>(p.k - first < L<T> ? p.k - first : L<T>);
    exists = true;
  }
};

// Four threads take a segment of more than 8 terms.
template <class T>
GDCORE_DEVICE void matvec_by_quads(const MatvecParams<T>& p) {
  const int q = static_cast<int>(threadIdx.x) % quad;
  const MatvecTask<T> task(p, (block_from(p.first_block) * blockDim.x + threadIdx.x) / quad);
  T lanes[4] = {T(0), T(0), T(0), T(0)};
  int i = 4 * q;
  if (task.exists && p.a_cs == 1 && p.x_stride == 1 && is_aligned(task.a) && is_aligned(task.x)) {
#pragma unroll 8
    for (; i + 4 <= task.terms; i += V) {
      const Four<T> a = Four<T>::load(task.a + i), x = Four<T>::load(task.x + i);
      GDCORE_UNROLL
      for (int v = 0; v < 4; ++v) lanes[v] = fma(a[v], x[v], lanes[v]);
    }
  }
#pragma unroll 4
  for (; i < task.terms; i += V) {
    GDCORE_UNROLL
    for (int v = 0; v < 4; ++v)
      if (i + v < task.terms)
        lanes[v] = fma(task.a[(i + v) * p.a_cs], task.x[(i + v) * p.x_stride], lanes[v]);
  }
  const T sum = fold_quad(lanes);
  if (q == 0 && task.exists) *task.to = sum;
}

// A thread takes a segment, where the rows of a lie closer together than its columns or are short.
template <class T>
GDCORE_DEVICE void matvec_by_rows(const MatvecParams<T>& p) {
  const MatvecTask<T> task(p, block_from(p.first_block) * blockDim.x + threadIdx.x);
  if (!task.exists) return;
  T lanes[V];
  GDCORE_UNROLL
  for (int v = 0; v < V; ++v) lanes[v] = T(0);
  const T *a = task.a, *x = task.x;
  int i = 0;
  for (; i + V <= task.terms; i += V) {
    GDCORE_UNROLL
    for (int v = 0; v < V; ++v, a += p.a_cs, x += p.x_stride) lanes[v] = fma(*a, *x, lanes[v]);
  }
  GDCORE_UNROLL
  for (int v = 0; v < V; ++v, a += p.a_cs, x += p.x_stride)
    if (i + v < task.terms) lanes[v] = fma(*a, *x, lanes[v]);
  *task.to = fold_lanes(lanes, p.lanes);
}

}  // namespace gdcore::cuda
