// Eight problems of one target side by side, as the kernels in cpu/isa/small_fits.hpp read them.
#pragma once

#include <cstdint>

namespace gdcore {

constexpr int lanes = 8;               // problems side by side, one in each lane
constexpr int most_lane_params = 16;   // on quadratics
constexpr int most_lane_features = 4;  // on rows

// Epochs that look at nothing but the gradient, see quiet_epochs. Parameters whose squares stay
// below this overflow nowhere, if the sums of their quadratic are below most_quiet_sum.
constexpr int most_quiet_params = 9, most_params_in_turns = 5;
constexpr double quiet_squares = 0x1p64, most_quiet_sum = 0x1p50;

// Rows of `lanes` problems, entry j of row i of lane l at (i * d + j) * lanes + l. Zeros follow a
// lane's own rows.
template <class T>
struct LaneRows {
  std::int64_t d;
  const T *X, *y;             // (most, d), (most)
  const T* offset;            // (most), or null
  const std::int64_t* n;      // of each lane
  std::int64_t fewest, most;  // of any lane
};

// Second moments of `lanes` problems whose rows lie together: those of lane l at X[l] (n[l], d) and
// y[l] (n[l]), one target. The sums are chains over the rows, entry k of lane l at k * lanes + l, low
// parts of pairs `low` behind: the upper triangle of the products of the columns [X y], by rows,
// then the sums of the columns; those of X's only with `ones`.
template <class T>
struct LaneMoments {
  std::int64_t d;
  bool ones;
  const T *X[lanes], *y[lanes];
  std::int64_t n[lanes];
  std::int64_t fewest, most;  // rows of any lane
  double* sums;
  std::int64_t low;
};

// Descents on the squared errors of `lanes` problems, entry j of lane l at j * lanes + l. They run
// until a lane may have to stop (see may_end); the caller decides.
template <class T>
struct DescentLanes {
  std::int64_t p;
  unsigned active;  // a bit for each lane with a problem
  // Either rows, their last parameter an intercept if p > d; or G (p, p), c (p) and s (1) of each
  // lane, low parts behind them.
  bool on_rows;
  LaneRows<T> rows;
  const double *G, *c, *s;
  const double *divisor, *factor;                    // of the loss and the gradient
  const double *lr, *decay, *norm_bound, *momentum;  // norm_bound: see EndRules
  std::int64_t decayed;                              // parameters that weight decay reaches
  bool has_momentum, nesterov, stop_on_equal_loss;
  T damped;

  T *w, *velocity, *previous;    // (p)
  T *first_loss, *last_loss;     // first_loss: NaN if not known yet
  std::int64_t *moving, *moved;  // 0 or -1: has a velocity; the last step changed some bit
  T* losses;                     // (epochs + 1) of each lane, the last at the parameters reached
  T* params;                     // (epochs, p) after each, or null
};

}  // namespace gdcore
