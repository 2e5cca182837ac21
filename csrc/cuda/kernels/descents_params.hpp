// What the kernels of descents take.
#pragma once

#include "cuda/kernels/rows_params.hpp"

namespace gdcore::cuda {

// Bits of DescentColumns::choices and ::state.
enum Choice : uint32_t { nesterov = 1, maximize = 2, stop_on_equal_loss = 4, measures_end = 8 };
enum State : uint32_t { moving = 1, moved = 2, may_end = 4 };

// Descents as columns: entry e of problem i is at [e * count + i]. See DescentArgs for what they
// are.
template <class T>
struct DescentColumns {
  int64_t count;

  // Read. momentum 0: there is no velocity. damped: 1 - dampening.
  double *divisor, *gradient, *lr, *weight_decay, *norm_bound, *momentum, *damped;
  int64_t *epochs, *every;
  int32_t* decayed;
  uint32_t* choices;

  // Read and written.
  int64_t* epoch;
  T *params, *velocity, *first_loss, *last_loss;
  uint32_t* state;

  // Written. previous: only if a step was made. loss: only by those that measure the end.
  T *previous, *loss;
  T *losses, *recorded;  // a record after the other, of so many parameters; may be null
};

template <class T>
struct QuadraticDescents {
  DescentColumns<T> columns;
  double* sums;  // as PackedQuadratic packs them
};

// The rows of one problem.
template <class T>
struct DescentRows {
  Rows<T> rows;
  int64_t n;
  const int64_t* order;  // row numbers; null: rows 0, 1, ...
  bool fit_intercept;
};

template <class T>
struct RowDescents {
  DescentColumns<T> columns;
  const DescentRows<T>* rows;  // (count)
  int tile_rows;
};

// Shared memory of a block that descends on rows of d features: that of add_segment, and, with the
// sums and entries of the gradient in front, the parameters.
GDCORE_HD constexpr int descent_doubles(int d) { return 2 * (d + 3); }
template <class T>
GDCORE_HD constexpr size_t descent_bytes(int d, int tile_rows) {
  return sizeof(double) * static_cast<size_t>(descent_doubles(d)) + rows_bytes<T>(d, tile_rows) +
         sizeof(T) * 4 * static_cast<size_t>(d + 1);
}

}  // namespace gdcore::cuda
