// What the kernels of a linear model's sums take.
#pragma once

#include "cuda/kernels/rows_params.hpp"
#include "shuffle.hpp"

namespace gdcore::cuda {

// Where the arrays of one of several problems lie.
template <class T>
struct LinearArrays {
  const T *X, *y, *offset, *weight, *parameters, *intercept;
};
struct LinearSteps {
  int64_t X, y, offset, weight, parameters, intercept;
};

// The partials of segments [segment0, segment0 + segments) of each problem.
template <class T>
struct LinearParams {
  static constexpr int most_inside = 32;  // parameters that travel with the launch

  Rows<T> rows;  // of problem 0
  const T *parameters, *intercept;
  int64_t parameters_rs;
  bool parameters_inside, has_intercept;
  T inside[most_inside];  // weights (d), then the intercept

  int64_t problems;
  LinearSteps steps;             // from a problem to the next
  const LinearArrays<T>* table;  // or where each lies; null where steps serve

  bool ordered;
  Permutation order;  // the identity if not ordered
  int64_t n, first;
  int64_t segment0, segments;
  bool packed;  // rows of 1, 2 or 4 features that follow each other, aligned for one load each
  int tile_rows;
  T* partials;           // (problems, segments, d + 2): X^T residual, 1^T residual, squares
  double* weight_sums;   // (problems, segments); null without weights
  T* slopes;             // (problems, segments, 512), weighted: what linear_slopes leaves for
  int64_t* row_numbers;  // linear_columns, with the rows that they are of
};

// Shared memory of a block of linear_rows.
template <class T>
GDCORE_HD constexpr size_t linear_rows_bytes(int d, int tile_rows) {
  return rows_bytes<T>(d, tile_rows) + sizeof(T) * (static_cast<size_t>(d) + 1);
}

}  // namespace gdcore::cuda
