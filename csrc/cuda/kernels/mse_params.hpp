// What the kernels of the squared error take.
#pragma once

#include "contract.hpp"

namespace gdcore::cuda {

enum class MseWrites { nothing, gradient, squares };

// The sums of segments go to `partials`, or the loss from a single segment to `loss`. Both may be
// null.
template <class T>
struct MseParams {
  int64_t size;
  const T *pred, *target;
  MseWrites writes;
  T* out;
  T gradient;  // times the residual
  double* partials;
  Scale scale;
  T* loss;
};

// Arrays of any strides, their dimensions merged.
template <class T>
struct StridedMseParams {
  static constexpr int most = 64;

  MseParams<T> sums;
  int dims;
  int64_t shape[most], pred_strides[most], target_strides[most];
};

// The loss from partials that are added in one chain.
template <class T>
struct MseCloseParams {
  const double* partials;
  int64_t count;
  Scale scale;
  T* loss;
};

}  // namespace gdcore::cuda
