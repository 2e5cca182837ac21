// What the kernels of second moments take.
#pragma once

#include "contract.hpp"

namespace gdcore::cuda {

constexpr int staged_rows = 8;      // of each segment in shared memory at a time
constexpr int square_threads = 16;  // a block of wide moments has their square

// Entries of the moments of d features and t targets that are kept: the upper triangle of
// [X 1]^T [X 1 y] by rows, then the squares of y.
GDCORE_HD constexpr int64_t moments_entries(int64_t d, int64_t t) {
  return (d + 1) * (d + 1 + t) - (d + 1) * d / 2 + t;
}
// Where that of columns a <= b is; -1 if there is none.
GDCORE_HD constexpr int64_t moments_entry(int64_t d, int64_t t, int64_t a, int64_t b) {
  if (a <= d) return a * (d + 1 + t) - a * (a - 1) / 2 + b - a;
  return a == b ? moments_entries(d, t) - t + a - d - 1 : -1;
}

// Shared memory of a block.
GDCORE_HD constexpr size_t moments_bytes(int units, int width) {
  return static_cast<size_t>(units * staged_rows) * (static_cast<size_t>(width) + 2) * 8;
}

// A segment. With row numbers the arrays are those of row 0, else those of the segment's first row.
template <class T>
struct MomentsUnit {
  const T *X, *y, *offset, *weight;  // offset and weight may be null
  const int64_t* row_numbers;        // may be null
  int64_t count;                     // rows
};

// Segments of one problem, or those in a table. A thread has R x R entries. Up to 128 columns, all
// are staged, and threads share out the triangle; above, blocks share out squares of it.
template <class T>
struct MomentsParams {
  int d, t;
  int64_t X_rs, X_cs, y_rs, y_cs, offset_rs, offset_cs, weight_rs;
  int64_t units;
  MomentsUnit<T> all;           // all rows of one problem
  const MomentsUnit<T>* table;  // or a unit each
  int64_t segment0;             // of the one problem
  int longest;                  // most rows of a unit
  bool squares;                 // blocks share out squares
  int side;                     // columns of a thread lie this far apart
  int width;                    // columns that are staged
  int units_of_block;
  int64_t tiles, parts;  // of the triangle; blocks that a unit's tiles take
  double *hi, *lo;       // (units, entries); no lo for float
};

// Sums of pieces of partials, as pairs. Piece i has the partials from begins[i] to begins[i + 1];
// or, if there is no table, the first piece has `first`, the ones after it 512.
struct FoldPairsParams {
  int64_t pieces, count, entries, first;
  const int64_t* begins;
  const double *in_hi, *in_lo;  // (count, entries); in_lo may be null: zeros
  bool continues;               // the first piece goes on from what `out` holds
  double* out;                  // (pieces, 2, entries)
};

}  // namespace gdcore::cuda
