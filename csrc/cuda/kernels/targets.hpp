// Slopes and sums of rows with several targets, from the product X @ weights.
#pragma once

#include "cuda/kernels/rows.hpp"
#include "cuda/kernels/targets_params.hpp"

namespace gdcore::cuda {

// The slope of element `index` of a problem's rows (rows, t).
template <class T>
GDCORE_DEVICE Slope<T> slope_of_element(const TargetsParams<T>& p, int64_t problem, int64_t index) {
  const int64_t u = index % p.t, row = p.order(p.first + index / p.t);
  T r = p.products[problem * p.rows * p.t + index];
  if (p.intercept) r += p.intercept[problem * p.steps.intercept + u * p.intercept_stride];
  if (p.offset) r += p.offset[problem * p.steps.offset + row * p.offset_rs + u * p.offset_cs];
  if (p.y) {
    const T y = p.y[problem * p.steps.y + row * p.y_rs + u * p.y_cs];
    r -= p.means_of_y ? static_cast<T>(static_cast<double>(y) - p.means_of_y[u]) : y;
  }
  const T weight = p.weight ? p.weight[problem * p.steps.weight + row * p.weight_rs] : T(0);
  return slope_of(p.loss, r, p.weight != nullptr, weight);
}

// A block: the slopes of 512 elements, and their squares, one partial.
template <class T>
GDCORE_DEVICE void target_slopes(const TargetsParams<T>& p) {
  constexpr int elements = static_cast<int>(L<T>);
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  T* const weighted = reinterpret_cast<T*>(shared_memory(2 * elements * sizeof(T)));
  T* const ratio = weighted + elements;
  const int64_t size = p.rows * p.t, parts = (size + elements - 1) / elements;
  const int64_t problem = blockIdx.x / parts, begin = blockIdx.x % parts * elements;
  const int here = static_cast<int>(size - begin < elements ? size - begin : elements);
  for (int e = t; e < here; e += threads) {
    const Slope<T> slope = slope_of_element(p, problem, begin + e);
    p.products[problem * size + begin + e] = slope.weighted;
    weighted[e] = slope.weighted;
    ratio[e] = slope.ratio;
  }
  __syncthreads();
  if (t >= 32) return;
  T acc = T(0);
  if (t < V)
    for (int e = t; e < here; e += V) acc = fma(weighted[e], ratio[e], acc);
  acc = fold_threads<V>(acc);
  if (t == 0) p.squares[blockIdx.x] = acc;
}

// A thread a target of a segment: the partial of its intercept. One thread more: the weights.
template <class T>
GDCORE_DEVICE void target_sums(const TargetsParams<T>& p) {
  constexpr int batch = 8;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t segments = (p.rows + L<T> - 1) / L<T>;
  if (index >= p.problems * segments * (p.t + 1)) return;
  const int64_t u = index % (p.t + 1), unit = index / (p.t + 1);
  const int64_t problem = unit / segments, begin = unit % segments * L<T>;
  const int64_t count = p.rows - begin < L<T> ? p.rows - begin : L<T>;
  if (u < p.t) {
    const T* const slopes = p.products + (problem * p.rows + begin) * p.t + u;
    T sum = T(0);
    int64_t i = 0;
    for (; i + batch <= count; i += batch) {
      T slope[batch];
      GDCORE_UNROLL
      for (int k = 0; k < batch; ++k) slope[k] = slopes[(i + k) * p.t];
      GDCORE_UNROLL
      for (int k = 0; k < batch; ++k) sum += slope[k];
    }
    for (; i < count; ++i) sum += slopes[i * p.t];
    p.partials[unit * (p.d + 1) * p.t + p.d * p.t + u] = sum;
  } else if (p.weight) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i)
      sum += static_cast<double>(
          p.weight[problem * p.steps.weight + p.order(p.first + begin + i) * p.weight_rs]);
    p.weight_sums[unit] = sum;
  }
}

}  // namespace gdcore::cuda
