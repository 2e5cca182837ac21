// Counts over rows on a CUDA device: what Moments know of their columns beside the sums.
#pragma once

#include <vector>

#include "views.hpp"

namespace gdcore::cuda {

// For each column, the rows of weight above 0 whose value is not the base's, or not 0 without one.
// Base and weight may be null. Works on gdcore's own stream, and waits for it.
template <class T>
std::vector<int64_t> count_nonzero(int64_t n, int64_t columns, Matrix<const T> values,
                                   Matrix<const T> base, Vector<const T> weight);

}  // namespace gdcore::cuda
