// What the kernels take that make slopes and sums of rows with several targets.
#pragma once

#include "contract.hpp"
#include "cuda/kernels/linear_params.hpp"

namespace gdcore::cuda {

// Rows of a wave: whole segments of each problem, the last of which may be short. products holds
// X @ weights, (problems, rows, t), and then the weighted slopes.
template <class T>
struct TargetsParams {
  int64_t problems, rows, d, t;
  int64_t first;  // position of the wave's first row
  Permutation order;
  const T *intercept, *offset, *y, *weight;  // of problem 0; all may be null
  int64_t intercept_stride, offset_rs, offset_cs, y_rs, y_cs, weight_rs;
  LinearSteps steps;         // from a problem to the next
  const double* means_of_y;  // (t), null if not standardised
  LossChoice loss;
  T* products;
  T* squares;           // (problems, partials of 512 elements)
  T* partials;          // (problems, segments, d t + t), of which the last t are written
  double* weight_sums;  // (problems, segments); null without weights
};

}  // namespace gdcore::cuda
