// What one instruction set provides: the inner loops, and the tile sizes the blocking above them
// reads.
#pragma once

#include <cstdint>

#include "cpu/lane_layout.hpp"
#include "loss.hpp"
#include "quadratic.hpp"

namespace gdcore {

// Rounding constants of one SGD step, already in T.
template <class T>
struct SgdStep {
  T lr, momentum, damped, weight_decay;  // damped = 1 - dampening
  bool nesterov, maximize, first;
};

// What a tile does with c: writes its sums, adds them, or continues the chains in c.
enum class Into { write, add, resume };

// `count` products c (rows,cols) of a (rows,k) and b (k,cols), a step apart: one chain an element.
// The columns of b and c are contiguous.
template <class T>
struct TileRun {
  int64_t count, k;  // k <= L
  const T* a;
  int64_t a_rs, a_cs, a_step;
  const T* b;
  int64_t b_rs, b_step;
  T* c;
  int64_t c_rs, c_step;
  int64_t rows;
  int cols;
  Into into;
};

// MR and NR: the most rows and columns that tiles of one product may have.
struct TileShape {
  int rows, cols;
};

// Lines of an operand: the rows of a, or the columns of b. Term p of line i is at
// x[i * ls + p * ks].
template <class T>
struct LineTerms {
  const T* x;
  int64_t ls, ks;
};

// Sums of m lines of a with n of b, n <= most_lines: a lane is a segment, and its terms come a
// block at a time. Lane s adds the products of the block's terms from first_term[s] on to each
// sums[(i * n + j) * lanes + s]. Of b (and, unless its terms are one or two elements apart, of a)
// a block is packed.
template <class T>
struct LanesOfSegments {
  int64_t m, n;
  const int64_t* first_term;
  LineTerms<T> a, b;
  T *sums, *packing;
};
constexpr int64_t segment_block = 64, most_lines = 4;

// `count` panels for tiles, a step apart: out[p * width + j] = x[p * ks + j * js] for j < n, zero
// for n <= j < width. Panels of out lie one after the other.
template <class T>
struct PackRun {
  int64_t count, k;
  int n, width;
  const T* x;
  int64_t ks, js, step;
  T* out;
};

// How the rows of a linear model are read. It decides the speed alone.
enum class Reading {
  ahead,     // segment by segment, prefetching 4 KiB ahead
  in_turns,  // several segments in turns, prefetching as well: X is larger than the caches
  in_order,  // in the order of memory without prefetching: the processor does that itself
};

// Rows of a linear model with one target, all of them contiguous in memory.
template <class T>
struct LinearRows {
  int64_t rows, d;
  const T* X;
  int64_t ldx;                                                // from row to row; d if d <= 16
  const T *weights, *intercept, *offset, *y, *sample_weight;  // may be null, but for weights
  Reading reading;
  T delta;  // of the loss
};

// Rows of [X 1 y - offset] in double, ld apart, times the roots of their sample weights, the ones
// in column `ones`. Without weights they are there already.
template <class T>
struct ToDoubleArgs {
  int64_t rows, d, t, ones;
  const T* X;
  int64_t X_rs, X_cs;
  const T* y;
  int64_t y_rs, y_cs;
  const T* offset;  // may be null
  int64_t offset_rs, offset_cs;
  const T* weight;  // may be null
  int64_t weight_stride;
  double* out;
  int64_t ld;
};

// Memory to prefetch.
struct PrefetchRange {
  const char* at;
  int64_t bytes;
};

// The upper triangle of out (m,n) = a (k,m)^T a (k,n), m <= n: each element one chain over k. Rows
// of a are ld apart, those of out ldc, low parts of pairs `low` behind. Up to whole vectors, more
// is written to the left and to the right of the triangle. resume: the chains continue from out.
// extra_rows (0 or 2 to most_extra_rows) counts more columns of a, from `extra` on, behind the n
// ones and at a whole line. Their products with the n columns and with each other are as many more
// rows of out. m is then n in whole lines of 8.
constexpr int64_t most_extra_rows = 4;
struct ProductsArgs {
  int64_t k, m, n, extra, extra_rows;
  const double* a;
  int64_t ld;
  double* out;
  int64_t ldc, low;
  bool resume;
  PrefetchRange prefetch;
};

// Whole segments of rows [X 1 y], one in each lane of a vector of doubles. The rows of X lie one
// after the other, and so do the numbers of y. out (lanes) gets the sums of each segment `step`
// apart, in the order of Moments and up to whole lines, the low parts of pairs `low` behind.
template <class T>
struct SegmentsArgs {
  int64_t d;
  const T *X, *y;
  int64_t rows;   // to turn at a time: a divisor of a segment, and a multiple of lanes
  double* panel;  // their numbers: (rows, d, lanes) of X, (rows, lanes) of y
  double* sums;   // ((d + 2)^2 + lanes, lanes), zeros; low parts `low_sums` behind
  int64_t low_sums;
  double* out;
  int64_t step, low;
};

// hi + lo (n), elements `stride` apart, += each of `count` sums (n) in turn, as pairs; the sums are
// `step` apart, their low parts, if there are any, `low` behind.
struct AddSumsArgs {
  int64_t n, count;
  const double* sums;
  int64_t step, low;
  double *hi, *lo;
  int64_t stride;
};

// For each row in turn, the products of z = [x 1 y], upper triangle row after row, are added to the
// sums of its group, table[group * entry] and so on; an entry is whole lines of 8. Features are
// contiguous, and few. Ends after a row that is the `segment`th of its group; returns the rows
// done.
struct GroupSumsArgs {
  int64_t rows, d;  // 1 <= d <= 6
  const float* X;
  int64_t X_rs;
  const float* y;
  int64_t y_rs;
  const uint32_t* group;
  int64_t group_step;
  double* table;
  int64_t entry, segment;
};

// hi + lo (m,n) = a (k,m)^T b (k,n), and size = |a|^T |b|: each element one chain over k, as a
// double (float) or as a pair (double). Rows of a and b are lda and ldb apart, those of b in whole
// vectors. lo and size are distances from hi, in elements. resume: the chains continue from the
// outputs.
struct AccurateBlock {
  int64_t m, n, k;
  const double* a;
  int64_t lda;
  const double* b;
  int64_t ldb;
  double* hi;
  int64_t ldc, lo, size;
  bool resume;
};

// The linear model under one loss.
template <class T>
struct LinearKernels {
  // Loss and gradient of whole segments of rows. A segment's sums, X^T slope (d), 1^T slope and
  // loss, go to partial, those of the next one to partial + stride. Whole cache lines are written.
  void (*rows)(const LinearRows<T>& x, T* partial, int64_t stride);

  // The same for one segment of d > 16 whose rows come in several calls, all but the last with a
  // multiple of 16. lanes has 32 elements, kept between the calls.
  void (*block)(const LinearRows<T>& x, T* partial, T* lanes, bool first, bool last);

  // r (n) holds products of one segment, and gets the weighted slopes; total: the sum of weighted
  // losses. Of x, the vectors and delta are read.
  void (*residuals)(int64_t n, T* r, const LinearRows<T>& x, T* total);
};

// The kernels of the losses that follow the squared error in `Losses`.
template <class T>
struct OtherLosses {
  LinearKernels<T> of[Losses::count - 1];
};

template <class T>
struct IsaTable {
  const char* name;

  TileShape (*tile_shape)(int64_t m, int64_t n);  // m, n >= 1
  void (*tiles)(const TileRun<T>& run);

  void (*pack)(const PackRun<T>& run);

  // A product with any number of rows and at most few_columns columns.
  int few_columns;
  void (*columns)(const TileRun<T>& run);

  // `count` products of n x n, n >= 2, all of them C-contiguous and one after the other. Returns
  // how many it did, the first ones.
  int64_t (*squares)(int64_t n, int64_t count, const T* a, const T* b, T* c);

  // Products over a long k: how many segments are lanes, and a block of each of them.
  int lanes;
  void (*segment_products)(const LanesOfSegments<T>& run);

  // out (rows) = X (rows,k) . w (k), rows of X contiguous, ldx apart. has_few_features: k <= 16 is
  // all of the sum, and ldx = k.
  void (*dot_rows)(int64_t rows, int64_t k, bool has_few_features, const T* X, int64_t ldx,
                   const T* w, T* out);

  // The same for X whose columns are contiguous, ldx apart, and sums in `lanes` lanes.
  void (*dot_columns)(int64_t rows, int64_t k, int64_t lanes, const T* X, int64_t ldx, const T* w,
                      T* out);

  LinearKernels<T> squared_error;
  const OtherLosses<T>* other_losses;
  const LinearKernels<T>& linear(const LossChoice& loss) const {
    return loss.place == 0 ? squared_error : other_losses->of[loss.place - 1];
  }

  // Sums of squares of pred - target, one for each segment of n. gradient * residual goes to out
  // unless it is null; `streams`: by non-temporal stores.
  void (*mse)(int64_t n, const T* pred, const T* target, T* out, T gradient, bool streams, T* sums);

  void (*sgd)(int64_t n, T* param, const T* grad, T* velocity, const SgdStep<T>& step);

  // Second moments, see ProductsArgs: sums rounded (float) or as pairs (double).
  void (*to_double)(const ToDoubleArgs<T>& x);
  void (*products)(const ProductsArgs& x);
  int segment_lanes, most_segment_features;  // lanes; up to which it is faster than `products`
  void (*segments)(const SegmentsArgs<T>& x);
  void (*add_sums)(const AddSumsArgs& x);

  void (*accurate)(const AccurateBlock& x);

  double (*quadratic)(const QuadraticArgs<T>& args, double* gradient);
  std::int64_t (*descend_lanes)(const DescentLanes<T>& lanes, std::int64_t epochs,
                                unsigned* ending);
  // `epochs` steps of one or two eights of descents on quadratics of the same size: losses, norms,
  // `previous` and the rest of their state stay as they are. Their velocities are moving. False if
  // a parameter has gone so far that a loss may have overflowed; the parameters are of no use then.
  bool (*quiet_epochs)(const DescentLanes<T>* lanes, int count, std::int64_t epochs);
  void (*moments_lanes)(const LaneMoments<T>& lanes);
  void (*curvature_lanes)(const HessianLanes& lanes);

  // The machine's limits. A round of probe_fma is fma_per_round products and sums, x * factor +
  // term. Only the table of float has the probes of memory; their n is a multiple of 256 and their
  // memory aligned to 64 bytes.
  int fma_per_round;
  T (*probe_fma)(int64_t rounds, T factor, T term);
  float (*probe_read)(int64_t n, const float* in) = nullptr;
  void (*probe_write)(int64_t n, float value, float* out, bool past_caches) = nullptr;
  void (*probe_copy)(int64_t n, const float* in, float* out, bool past_caches) = nullptr;

  std::int64_t (*group_sums)(const GroupSumsArgs& x) = nullptr;  // of float alone
};

}  // namespace gdcore
