// A descent by a block: each thread steps the parameters that are its own.
#pragma once

#include "cuda/kernels/descents.hpp"

namespace gdcore::cuda {

// A descent's vectors in shared memory, see vectors_bytes.
template <class T>
struct DescentVectors {
  double *sums, *entries;  // half the gradient; the gradient, then what a step has changed
  T *w, *velocity, *before, *gradient;
};
// `at` is 8-byte aligned.
template <class T>
GDCORE_DEVICE DescentVectors<T> descent_vectors(unsigned char* at, int size) {
  DescentVectors<T> v;
  v.sums = reinterpret_cast<double*>(at);
  v.entries = v.sums + size;
  v.w = reinterpret_cast<T*>(v.entries + size);
  v.velocity = v.w + size;
  v.before = v.velocity + size;
  v.gradient = v.before + size;
  return v;
}

// measure(v): leaves half the gradient at v.w in v.sums and returns the squares, to all threads. It
// begins with a barrier, and when it returns all of v.sums has been written for the whole block.
//
// All threads follow the descent with the same numbers.
template <class T, class Measure>
GDCORE_DEVICE void descend_by_block(const DescentColumns<T>& columns, int size,
                                    const DescentVectors<T>& v, Measure&& measure) {
  const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  OneDescent<T> descent(columns, blockIdx.x);
  for (int j = t; j < size; j += threads) {
    v.before[j] = v.w[j] = descent.param(j);
    v.velocity[j] = descent.velocity(j);
  }
  while (descent.measures()) {
    const double squares = measure(v);
    for (int j = t; j < size; j += threads) {
      v.gradient[j] = descent.gradient(v.sums[j]);
      v.entries[j] = descent.entry(j, v.gradient[j], v.w[j]);
    }
    __syncthreads();
    double norm_squares = 0;
    for (int j = 0; j < size; ++j) norm_squares = norm_squares + v.entries[j] * v.entries[j];
    if (descent.stops(squares, norm_squares)) break;
    __syncthreads();  // the entries have been read
    for (int j = t; j < size; j += threads) {
      v.before[j] = v.w[j];
      const bool changed = descent.step(j, v.gradient[j], v.w[j], v.velocity[j]);
      v.entries[j] = changed ? 1.0 : 0.0;
    }
    __syncthreads();
    bool changed = false;
    for (int j = 0; j < size; ++j) changed = changed || v.entries[j] != 0.0;
    descent.end_epoch(changed);
    if (!descent.records()) continue;
    if (t == 0) descent.record_loss();
    for (int j = t; j < size; j += threads) descent.record_param(j, size, v.w[j]);
    descent.end_record();
  }
  for (int j = t; j < size; j += threads) descent.keep_param(j, v.w[j], v.velocity[j], v.before[j]);
  __syncthreads();  // all threads have read the state, also where there was no epoch to do
  if (t == 0) descent.keep();
}

}  // namespace gdcore::cuda
