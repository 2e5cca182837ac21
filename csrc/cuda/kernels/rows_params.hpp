// The rows of one target as kernels see them, and the shared memory that a block needs for them.
#pragma once

#include "contract.hpp"
#include "loss.hpp"

namespace gdcore::cuda {

// Device memory, strides in elements. y, offset, weight and scaling may be null.
template <class T>
struct Rows {
  int d;
  const T *X, *y, *offset, *weight;
  int64_t X_rs, X_cs, y_rs, offset_rs, weight_rs;
  const double* scaling;  // see LinearArgs: means (d), factors (d), the mean of y
  LossChoice loss;
};

// Chains of all entries of X^T residual, and the lanes of the intercept and of the squares.
GDCORE_HD constexpr int chain_slots(int d) { return d * static_cast<int>(chains_of(d)) + 2 * V; }

// Odd, so that threads that read one column of 32 rows meet every bank of shared memory once.
GDCORE_HD constexpr int tile_stride(int d) { return d | 1; }

// Shared memory of add_segment: row numbers, then weighted slopes, ratios and weights of a tile's
// rows, then the chains, then the tile.
template <class T>
GDCORE_HD constexpr size_t rows_bytes(int d, int tile_rows) {
  const size_t values = static_cast<size_t>(tile_rows) * (3 + static_cast<size_t>(tile_stride(d)));
  return sizeof(int64_t) * static_cast<size_t>(tile_rows) +
         sizeof(T) * (values + static_cast<size_t>(chain_slots(d)));
}

}  // namespace gdcore::cuda
