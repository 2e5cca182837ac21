// What the kernel that counts numbers other than 0 takes.
#pragma once

#include "views.hpp"

namespace gdcore::cuda {

constexpr int count_threads = 256;

// A block counts in `width` columns and `rows_per_block` rows: `width` neighbouring threads take
// one row each time, so that both layouts are read in order. width divides count_threads.
template <class T>
struct CountParams {
  int64_t n, columns;
  Matrix<const T> values, base;  // base may be null: zeros
  Vector<const T> weight;        // may be null; rows of weight 0 do not count
  int width;
  int64_t tiles, rows_per_block;
  int64_t* counts;  // (blocks of rows, columns)
};

}  // namespace gdcore::cuda
