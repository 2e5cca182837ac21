// What the kernel takes that copies rows.
#pragma once

#include "contract.hpp"
#include "shuffle.hpp"

namespace gdcore::cuda {

// out (rows, columns), contiguous: rows at positions first, first + 1, ... of `in`.
template <class T>
struct GatherParams {
  int64_t rows, columns, first;
  const T* in;
  int64_t rs, cs;
  const int64_t* row_numbers;  // of the rows from `first` on; null: those of `order`
  Permutation order;
  const double *means, *factors;  // (columns) of standardised elements; null: as they are
  T* out;
};

}  // namespace gdcore::cuda
