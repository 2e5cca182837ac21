// Least squares from a triangular factor whose columns were pivoted: the rank, and the solution of
// least norm.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "fit/least_squares.hpp"

namespace gdcore {

struct ExactOptions {
  double weight_decay = 0;
  // Whether weight decay reaches the intercept, and whether it refers to standardised columns.
  bool decay_intercept = true, standardize = false;
  double rcond = -1;  // pivots up to this times the first count as zero; below 0: `rank_tolerance`
  Covariance covariance = Covariance::none;  // sums of squared residuals are kept for any other
};

// Pivots up to this times the first are what rounding leaves of dependent columns: see
// docs/numerics.md.
double rank_tolerance(int64_t p, double epsilon, double rcond);
template <class T>
double default_tolerance(int64_t p) {
  return rank_tolerance(p, std::numeric_limits<T>::epsilon(), -1);
}

// R (p,p) of the columns of X, each times its scale, in the order of `column`; then Q^T y (p,t).
// Rows from `rank` on count as zero.
struct Pivoted {
  int64_t p, width, rank;  // width: p + t
  double tolerance;
  std::vector<double> a;  // (p, width)
  std::vector<int64_t> column;
  std::vector<double> scale;  // of each column of X; columns of unit norm times it are those of X

  double smallest_pivot() const { return rank < p ? 0 : std::fabs(a[(p - 1) * (width + 1)]); }
  // Parameters (p,t). Of all that fit equally well those of least norm.
  std::vector<double> solve() const;
  // The rank and, where it is full, the inverse of R.
  void describe(LeastSquares& solved) const;
};

// The reflection that sends (head, tail) to (norm, 0): I - beta v v^T with v = (1, tail / v0)
// (Golub, Van Loan, 5.1).
struct Reflection {
  double norm, beta, scale;  // scale: 1 / v0
};
Reflection reflection(double head, double tail_squares);

template <class T>
struct Solution {
  std::vector<T> params;  // of least norm where the columns are dependent
  int64_t rank;
};
template <class T>
Solution<T> solution_of(const Pivoted& factor, LeastSquares* solved = nullptr) {
  const std::vector<double> params = factor.solve();
  if (solved) {
    factor.describe(*solved);
    solved->params = params;
  }
  return {{params.begin(), params.end()}, factor.rank};
}

// Factorises R (p,p) with right sides (p,t) behind it again, with column pivoting. Columns come
// scaled by 2^-exponent.
Pivoted pivot(std::vector<double> a, const std::vector<int>& exponent, int64_t p, int64_t width,
              double tolerance);

}  // namespace gdcore
