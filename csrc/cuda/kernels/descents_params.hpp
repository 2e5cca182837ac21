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

  // Outputs. previous is written if a step was made, loss if the descent measures the end.
  T *previous, *loss;
  T *losses, *recorded;  // one record after the other; may be null
};

template <class T>
struct QuadraticDescents {
  DescentColumns<T> columns;
  double* sums;    // as PackedQuadratic packs them
  int parameters;  // of each
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

// Shared memory of a block that descends: see DescentVectors.
template <class T>
GDCORE_HD constexpr size_t vectors_bytes(int size) {
  const size_t bytes = (2 * sizeof(double) + 4 * sizeof(T)) * static_cast<size_t>(size);
  return (bytes + 7) / 8 * 8;
}
// On rows of d features, behind that: see add_segment.
template <class T>
GDCORE_HD constexpr size_t row_descent_bytes(int d, int tile_rows) {
  return vectors_bytes<T>(d + 3) + rows_bytes<T>(d, tile_rows);
}
// On a quadratic of p parameters, behind that: G, c and what of the squares each parameter has, all
// with their low parts.
template <class T>
GDCORE_HD constexpr size_t quadratic_descent_bytes(int p) {
  const size_t numbers = static_cast<size_t>(p) * static_cast<size_t>(p + 2);
  return vectors_bytes<T>(p) + (sizeof(T) == 4 ? 1 : 2) * sizeof(double) * numbers;
}

}  // namespace gdcore::cuda
