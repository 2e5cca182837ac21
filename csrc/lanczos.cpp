#include "lanczos.hpp"

#include <algorithm>
#include <limits>

#include "shuffle.hpp"

namespace gdcore {
namespace {

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// No eigenvalue is above it (Gershgorin).
double bound_of(const Tridiagonal& A) {
  const size_t n = A.diagonal.size();
  double bound = 0;
  for (size_t i = 0; i < n; ++i)
    bound = std::max(
        bound, std::fabs(A.diagonal[i]) + (i ? A.off[i - 1] : 0) + (i + 1 < n ? A.off[i] : 0));
  return bound;
}

// Newton's method from above on the characteristic polynomial, by the pivots and their derivatives:
// from there it converges, but for rounding.
double estimated_eigenvalue(const Tridiagonal& A) {
  constexpr int most = 30;
  const size_t n = A.diagonal.size();
  if (n == 1) return A.diagonal[0];
  double x = bound_of(A);
  for (int step = 0; step < most; ++step) {
    double pivot = A.diagonal[0] - x, slope = -1, sum = slope / pivot;
    for (size_t i = 1; i < n; ++i) {
      const double ratio = A.off[i - 1] / pivot;
      pivot = A.diagonal[i] - x - A.off[i - 1] * ratio;
      slope = ratio * ratio * slope - 1;
      sum += slope / pivot;
    }
    const double next = x - 1 / sum;
    if (!(next > 0 && next < x)) break;
    const bool close = x - next <= x * 0x1p-50;
    x = next;
    if (close) break;
  }
  return x;
}

// Whether all eigenvalues are below x, by the signs of the pivots (Sturm).
bool is_below(const Tridiagonal& A, double x) {
  double pivot = 1;
  for (size_t i = 0; i < A.diagonal.size(); ++i) {
    pivot = A.diagonal[i] - x - (i == 0 ? 0 : A.off[i - 1] * A.off[i - 1] / pivot);
    if (pivot == 0) pivot = -1e-300;  // below any entry of a matrix scaled to about 1
    if (!(pivot < 0)) return false;
  }
  return true;
}

// The least number that all eigenvalues are below, by bisection about an estimate of it.
double largest_eigenvalue(const Tridiagonal& A, double estimate) {
  double low = 0, high = bound_of(A);
  const auto bracket = [&](double x) {
    if (x > low && x < high) (is_below(A, x) ? high : low) = x;
  };
  for (double off = 0x1p-51; off < 1; off *= 64) {
    bracket(estimate * (1 - off));
    bracket(estimate * (1 + off));
    if (low > 0 && high <= estimate * (1 + off)) break;
  }
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) break;
    bracket(middle);
  }
  return high;
}

// |last component| of the unit eigenvector of the eigenvalue, by its three-term recurrence.
double last_component(const Tridiagonal& A, double value) {
  double before = 0, now = 1, norm = 1;
  for (size_t i = 0; i + 1 < A.diagonal.size(); ++i) {
    if (A.off[i] == 0) return 0;
    const double next =
        ((value - A.diagonal[i]) * now - (i ? A.off[i - 1] : 0) * before) / A.off[i];
    before = now;
    now = next;
    norm += now * now;
    if (norm > 1e100) {
      before *= 1e-50;
      now *= 1e-50;
      norm *= 1e-100;
    }
  }
  return std::fabs(now) / std::sqrt(norm);
}

}  // namespace

void Lanczos::restart(int64_t p) {
  constexpr int64_t most_steps = 64, most_basis = int64_t{1} << 24;  // doubles
  if (static_cast<int64_t>(start_.size()) != p) start_ = random_start(p);
  most_ = std::min({p, most_steps, std::max<int64_t>(2, most_basis / std::max<int64_t>(p, 1))});
  done_ = p == 0;
  exponent_ = 0;
  largest_ = residual_ = 0;
  matrix_.diagonal.clear();
  matrix_.off.clear();
  basis_.assign(start_.begin(), start_.end());
}

// Uniform in +-[1, 2) before the length is made 1.
std::vector<double> Lanczos::random_start(int64_t p) {
  std::vector<double> start(static_cast<size_t>(p));
  double norm = 0;
  for (int64_t i = 0; i < p; ++i) {
    const uint32_t word =
        philox({{static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), 0, 1}}, 0, 0).at[0];
    start[i] = (1.0 + word * 0x1p-32) * (word & 1 ? 1 : -1);
    norm += start[i] * start[i];
  }
  for (double& value : start) value /= std::sqrt(norm);
  return start;
}

void Lanczos::step(double* image) {
  const auto p = static_cast<int64_t>(start_.size());
  const auto k = static_cast<int64_t>(matrix_.diagonal.size());
  if (k == 0) {
    double largest = 0;
    for (int64_t i = 0; i < p; ++i) largest = std::max(largest, std::fabs(image[i]));
    if (std::isfinite(largest) && largest > 0)
      exponent_ =
          static_cast<int>(std::clamp<int64_t>(std::ilogb(largest), -most_exponent, most_exponent));
  }
  const double shrink = std::ldexp(1.0, -exponent_);  // exact
  for (int64_t i = 0; i < p; ++i) image[i] *= shrink;
  const double alpha = dot(direction(), image, p);
  matrix_.diagonal.push_back(alpha);
  for (int pass = 0; pass < 2; ++pass) {
    for (int64_t row = 0; row <= k; ++row) {
      const double* other = basis_.data() + row * p;
      const double along = dot(other, image, p);
      for (int64_t i = 0; i < p; ++i) image[i] -= along * other[i];
    }
  }
  const double beta = std::sqrt(dot(image, image, p));
  largest_ = estimated_eigenvalue(matrix_);
  residual_ = beta * last_component(matrix_, largest_);
  if (!std::isfinite(alpha) || !std::isfinite(beta)) {
    largest_ = residual_ = std::numeric_limits<double>::infinity();
    done_ = true;
  }
  if (!done_ && (k + 1 == most_ || residual_ <= accuracy * largest_)) {
    largest_ = largest_eigenvalue(matrix_, largest_);
    residual_ = beta * last_component(matrix_, largest_);
    done_ = true;
  }
  if (done_) return;
  matrix_.off.push_back(beta);
  for (int64_t i = 0; i < p; ++i) basis_.push_back(image[i] / beta);
}

}  // namespace gdcore
