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

constexpr int most_lane_params = 16;

// Descents on `lanes` quadratics side by side, entry j of lane l at j * lanes + l: as far as
// nothing ends. What is to be done then is for others to know.
template <class T>
struct QuadraticLanes {
  static constexpr int lanes = 8;

  std::int64_t p;
  unsigned active;                 // a bit for each lane with a problem
  const double *G, *c, *s;         // (p, p), (p) and (1) of each lane; low parts behind them
  const double *divisor, *factor;  // of the loss and the gradient
  const double *lr, *decay, *tol;  // tol below 0: none
  bool has_momentum, nesterov, stop_on_equal_loss;
  T momentum, damped;

  T *w, *velocity, *previous;  // (p)
  double* first_norm;          // below 0: not known yet
  T *first_loss, *last_loss;
  std::int64_t *moving, *moved;  // 0 or -1: has a velocity; the last step changed some bit
  T* losses;                     // (epochs) of each lane, or null
};

}  // namespace gdcore
