// The squared error of one target as a function of its parameters alone.
#pragma once

#include <cstdint>

namespace gdcore {

// Sum of squared residuals = s - 2 c.w + w.G w. Its sums are float64 for float32 parameters, pairs
// hi + lo for float64 ones: low parts lie p * ld behind G, p behind c, 1 behind s.
template <class T>
struct QuadraticArgs {
  std::int64_t p, ld;  // ld: of G, a multiple of 8
  const double* G;     // (p, ld), symmetric, +0 in the columns past p
  const double *c, *s;
  const T* w;  // (p)
  std::int64_t w_stride;
};

}  // namespace gdcore
