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

constexpr int lanes = 8;               // problems side by side
constexpr int most_lane_params = 16;   // on quadratics
constexpr int most_lane_features = 4;  // on rows

// Rows of `lanes` problems of one target side by side, entry j of row i of lane l at
// (i * d + j) * lanes + l. Past a lane's own rows are zeros.
template <class T>
struct LaneRows {
  std::int64_t d;
  const T *X, *y, *ones;      // (most, d), (most), and 1 in each row that is one
  const T* offset;            // (most), or null
  const std::int64_t* n;      // of each lane
  std::int64_t fewest, most;  // of any lane
};

// Upper triangle of the sums over the rows of products of the columns [X 1 y], each a chain over
// the rows: entry (a, b) of lane l at (a * side + b) * lanes + l, side the number of columns
// rounded up to whole threes. Low parts of pairs lie `low` behind.
template <class T>
struct LaneMoments {
  LaneRows<T> rows;
  double* out;
  std::int64_t side, low;
};

// Descents on the squared errors of `lanes` problems side by side, entry j of lane l at
// j * lanes + l: as far as nothing ends. What is to be done then is for others to know.
template <class T>
struct DescentLanes {
  std::int64_t p;
  unsigned active;  // a bit for each lane with a problem
  // Either rows, their last parameter an intercept if p > d; or G (p, p), c (p) and s (1) of each
  // lane, low parts behind them.
  bool on_rows;
  LaneRows<T> rows;
  const double *G, *c, *s;
  const double *divisor, *factor;  // of the loss and the gradient
  // norm_bound: a gradient's norm from which on a descent may end; below 0: it ends otherwise.
  const double *lr, *decay, *norm_bound, *momentum;
  std::int64_t decayed;  // parameters that weight decay reaches
  bool has_momentum, nesterov, stop_on_equal_loss;
  T damped;

  T *w, *velocity, *previous;    // (p)
  T *first_loss, *last_loss;     // first_loss: NaN if not known yet
  std::int64_t *moving, *moved;  // 0 or -1: has a velocity; the last step changed some bit
  T* losses;                     // (epochs + 1) of each lane: the last is where they have come to
  T* params;                     // (epochs, p) after each, or null
};

}  // namespace gdcore
