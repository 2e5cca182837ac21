// A least-squares solution, with all that its estimated covariance is made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace gdcore {

using std::size_t;

// White (1980) for hc0; MacKinnon and White (1985) for the others.
enum class Covariance { none, ols, hc0, hc1, hc2, hc3 };

// The rows are X, y - offset and weights W. All is in double. (X^T W X)^-1 is the product of the
// rows of D C, C an upper triangle and D a diagonal, whose row i belongs to parameter order[i].
struct LeastSquares {
  int64_t p = 0, t = 0, rank = 0;
  int64_t rows = 0;  // of weight above 0
  std::vector<int64_t> order;
  std::vector<double> inverse, scale;  // C (p,p), the diagonal of D; only of full rank
  std::vector<double> params;          // (p,t)
  // Each target has the weighted mean of y - offset, and the weighted squares of the residuals and
  // of y - offset about that, 0 if they are rounding errors. Without an intercept the mean is 0.
  bool centred = false;
  std::vector<double> mean, squares, total;
  bool squares_known = false;  // otherwise the rows tell `squares` and `total`

  void reset(int64_t parameters, int64_t targets) {
    p = parameters;
    t = targets;
    rank = rows = 0;
    squares_known = false;
    order.resize(static_cast<size_t>(p));
    scale.resize(order.size());
    inverse.resize(static_cast<size_t>(p * p));
    params.resize(static_cast<size_t>(p * t));
    mean.resize(static_cast<size_t>(t));
    squares.resize(mean.size());
    total.resize(mean.size());
  }
};

// Squares about the mean up to this part of the squares are rounding errors of type T: y is
// constant.
template <class T>
constexpr double constant_share =
    4 * std::numeric_limits<T>::epsilon() * std::numeric_limits<T>::epsilon();

// Writes C = R^-1 (p,p), R an upper triangle whose row i starts at r + i * width.
void invert(int64_t p, const double* r, int64_t width, double* inverse);

}  // namespace gdcore
