// What the kernels take that add up the partials of segments.
#pragma once

#include "contract.hpp"

namespace gdcore::cuda {

// Sums of pieces of partials, each in order: in (groups, count, entries), out (groups, pieces,
// entries) with rows `out_pitch` apart. The first piece of a group has `first` partials, the ones
// after it `length`.
template <class In>
struct FoldParams {
  int64_t groups, count, entries, first, length, pieces;
  const In* in;
  const double* start;  // (entries): what the first piece is added to; null: zeros
  double* out;
  int64_t out_pitch;
};

template <class T>
struct CloseArrays {
  T *loss, *weights, *intercept;  // intercept may be null
};
struct CloseSteps {
  int64_t loss, weights, intercept;
};

// Closes problems: in (problems, count, entries), whose sums over count are X^T residual (d,t), 1^T
// residual (t) and the squares.
template <class T>
struct CloseOf {
  int64_t problems, entries;
  int64_t d, t, n;
  Reduction reduction;
  double slope;  // the loss's scale
  CloseArrays<T> out;
  CloseSteps steps;
  const CloseArrays<T>* table;  // or where each problem's results go; null where steps serve
};
template <class T, class In>
struct CloseParams : CloseOf<T> {
  int64_t count;
  const In* in;
  const double* weight_sums;  // (problems, count); null: n rows count
};

}  // namespace gdcore::cuda
