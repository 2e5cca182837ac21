// Columns of a block of rows, in double: multiples of one added to others, and products with
// others. A product is rounded before it is added, so that residual passes have the bits of plain
// loops.
#pragma once

#include "fold.hpp"

namespace {

inline void add_multiples(index_t rows, index_t count, const double* x, const double* factors,
                          double* y, index_t step) {
  for (index_t k = 0; k < count; ++k, y += step) {
    const vec<double> factor = broadcast(factors[k]);
    for (index_t i = 0; i < rows; i += W<double>) store(y + i, load(y + i) + factor * load(x + i));
  }
}

inline void add_dots(index_t rows, index_t count, const double* x, const double* y, index_t step,
                     double* sums) {
  constexpr int parts = 8 / W<double>;
  for (index_t k = 0; k < count; ++k, y += step) {
    vec<double> sum[parts] = {};
    for (index_t i = 0; i < rows; i += 8)
      for (int s = 0; s < parts; ++s) {
        const index_t at = i + s * W<double>;
        sum[s] = sum[s] + load(x + at) * load(y + at);
      }
    for (int half = parts / 2; half > 0; half /= 2)
      for (int s = 0; s < half; ++s) sum[s] = sum[s] + sum[s + half];
    vec<double> total = sum[0];
    if constexpr (W<double> >= 8) total = add_distant<double, 4>(total);
    if constexpr (W<double> >= 4) total = add_distant<double, 2>(total);
    sums[k] += add_distant<double, 1>(total)[0];
  }
}

}  // namespace
