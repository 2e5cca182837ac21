// Partials of segments, added in the order of docs/numerics.md, rule 2; and the closing formulas.
#pragma once

#include "cuda/kernels/fold_params.hpp"
#include "cuda/kernels/in_order.hpp"

namespace gdcore::cuda {

// A thread an entry of a piece.
template <class In>
GDCORE_DEVICE void fold(const FoldParams<In>& p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= p.groups * p.pieces * p.entries) return;
  const int64_t entry = index % p.entries, row = index / p.entries;
  const int64_t group = row / p.pieces, piece = row % p.pieces;
  const int64_t begin = piece == 0 ? 0 : p.first + (piece - 1) * p.length;
  const int64_t length = piece == 0 ? p.first : p.length, left = p.count - begin;
  const double start = piece == 0 && p.start ? p.start[entry] : 0.0;
  p.out[row * p.out_pitch + entry] =
      add_in_order(start, p.in + (group * p.count + begin) * p.entries + entry, p.entries,
                   left < length ? left : length);
}

// A thread an entry of a problem.
template <class T, class In>
GDCORE_DEVICE void close(const CloseParams<T, In>& p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= p.problems * p.entries) return;
  const int64_t problem = index / p.entries, entry = index % p.entries;
  const double rows = p.weight_sums
                          ? add_in_order(0.0, p.weight_sums + problem * p.count, 1, p.count)
                          : static_cast<double>(p.n);
  const Scale scale = scale_of(p.reduction, rows * static_cast<double>(p.t), p.slope);
  const double sum =
      add_in_order(0.0, p.in + problem * p.count * p.entries + entry, p.entries, p.count);
  CloseArrays<T> out = p.out;
  if (p.table) {
    out = p.table[problem];
  } else {
    out.loss += problem * p.steps.loss;
    out.weights += problem * p.steps.weights;
    if (out.intercept) out.intercept += problem * p.steps.intercept;
  }
  const int64_t weights = p.d * p.t;
  if (entry < weights)
    out.weights[entry] = closed_gradient<T>(scale, sum);
  else if (entry == weights + p.t)
    *out.loss = closed_loss<T>(scale, sum);
  else if (out.intercept)
    out.intercept[entry - weights] = closed_gradient<T>(scale, sum);
}

}  // namespace gdcore::cuda
