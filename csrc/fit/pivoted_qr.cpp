#include "fit/pivoted_qr.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace gdcore {
namespace {

// The squares of each column of `a` (p, width) from a row on, which is what pivots are chosen by.
class ColumnSquares {
 public:
  ColumnSquares(const std::vector<double>& a, int64_t p, int64_t width)
      : a_(a), p_(p), width_(width), left_(static_cast<size_t>(p)), summed_(left_) {
    for (int64_t j = 0; j < p; ++j) sum(j, 0);
  }
  double operator[](int64_t j) const { return left_[j]; }
  int64_t largest(int64_t from) const {
    return std::max_element(left_.begin() + from, left_.end()) - left_.begin();
  }
  void scale(int64_t j, double factor) {
    left_[j] *= factor * factor;
    summed_[j] = left_[j];
  }
  void swap(int64_t i, int64_t j) {
    std::swap(left_[i], left_[j]);
    std::swap(summed_[i], summed_[j]);
  }
  // Leaves out a row. Where the difference keeps less than half of the digits, it is summed again.
  void leave(int64_t row) {
    for (int64_t j = row + 1; j < p_; ++j) {
      const double gone = a_[row * width_ + j];
      left_[j] -= gone * gone;
      if (!(left_[j] > 0x1p-26 * summed_[j])) sum(j, row + 1);
    }
  }

 private:
  void sum(int64_t j, int64_t row) {
    double squares = 0;
    for (int64_t i = row; i < p_; ++i) squares += a_[i * width_ + j] * a_[i * width_ + j];
    left_[j] = summed_[j] = squares;
  }

  const std::vector<double>& a_;
  int64_t p_, width_;
  std::vector<double> left_, summed_;  // summed_: when it last was
};

// The length of a vector whose squares may over- or underflow.
double length(const double* v, int64_t n, int64_t stride, double& power) {
  double largest = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(v[i * stride]));
  power = largest > 0 ? std::ldexp(1.0, -std::ilogb(largest)) : 1;
  for (int64_t i = 0; i < n; ++i) squares += power * v[i * stride] * (power * v[i * stride]);
  return std::sqrt(squares) / power;
}

// A reflection I - beta v v^T that leaves one number of a vector: v is kept in place of the vector,
// the number is returned (Golub, Van Loan, 5.1).
double reflect(double* v, int64_t n, int64_t stride, double& beta) {
  double power;
  const double norm = length(v, n, stride, power), left = v[0] > 0 ? -norm : norm;
  for (int64_t i = 0; i < n; ++i) v[i * stride] *= power;
  const double scaled = left * power;
  beta = scaled == 0 ? 0 : 1 / (scaled * scaled - v[0] * scaled);
  v[0] -= scaled;
  return left;
}

void apply(const double* v, double beta, double* x, int64_t n, int64_t stride) {
  double along = 0;
  for (int64_t i = 0; i < n; ++i) along += v[i * stride] * x[i * stride];
  for (int64_t i = 0; i < n; ++i) x[i * stride] -= beta * along * v[i * stride];
}

// Solutions of least norm of the first `rank` rows B x = c, in the data's own units. B^T = Q R with
// pivoting of B's rows, B's columns sorted by their length: rounding errors of a column are then
// small beside that column, however much longer others are (Cox, Higham 1998).
class LeastNorm {
 public:
  explicit LeastNorm(const Pivoted& f)
      : f_(f), p_(f.p), r_(f.rank), longest_(static_cast<size_t>(f.p)) {
    std::iota(longest_.begin(), longest_.end(), 0);
    std::stable_sort(longest_.begin(), longest_.end(), [&](int64_t i, int64_t j) {
      return f.scale[f.column[i]] < f.scale[f.column[j]];
    });
    row_.resize(static_cast<size_t>(r_));
    diagonal_.resize(row_.size());
    beta_.resize(row_.size());
    bt_.resize(static_cast<size_t>(p_ * r_));
    for (int64_t i = 0; i < r_; ++i) set_row(i);
    std::iota(row_.begin(), row_.end(), 0);
    for (int64_t k = 0; k < r_; ++k) eliminate(k);
  }

  void solve(int64_t target, double* x, int64_t stride) const {
    std::vector<double> z(static_cast<size_t>(p_), 0.0);
    for (int64_t k = 0; k < r_; ++k) {
      const int64_t i = row_[k];
      double sum = f_.a[i * f_.width + f_.p + target];
      for (int64_t l = 0; l < k; ++l) sum -= bt_[l * r_ + k] * z[l];
      z[k] = diagonal_[k] == 0 ? 0 : sum / diagonal_[k];
    }
    std::vector<double> v(static_cast<size_t>(p_));
    for (int64_t k = r_; k-- > 0;) {
      for (int64_t i = k; i < p_; ++i) v[i] = bt_[i * r_ + k];
      apply(&v[k], beta_[k], &z[k], p_ - k, 1);
    }
    for (int64_t i = 0; i < p_; ++i) x[f_.column[longest_[i]] * stride] = z[i];
  }

 private:
  // Row i of B. The rest of a dependent column in it may be rounding error.
  void set_row(int64_t i) {
    for (int64_t k = 0; k < p_; ++k) {
      const int64_t j = longest_[k];
      const double unit = f_.a[i * f_.width + j];
      const bool noise = j >= r_ && !(std::fabs(unit) > f_.tolerance);
      bt_[k * r_ + i] = j < i || noise ? 0 : unit / f_.scale[f_.column[j]];
    }
  }

  void eliminate(int64_t k) {
    int64_t best = k;
    double most = -1, power;
    for (int64_t j = k; j < r_; ++j) {
      const double norm = length(&bt_[k * r_ + j], p_ - k, r_, power);
      if (norm > most) {
        most = norm;
        best = j;
      }
    }
    if (best != k) {
      for (int64_t i = 0; i < p_; ++i) std::swap(bt_[i * r_ + k], bt_[i * r_ + best]);
      std::swap(row_[k], row_[best]);
    }
    double* const v = &bt_[k * r_ + k];
    diagonal_[k] = reflect(v, p_ - k, r_, beta_[k]);
    for (int64_t j = k + 1; j < r_; ++j) apply(v, beta_[k], v + j - k, p_ - k, r_);
  }

  const Pivoted& f_;
  int64_t p_, r_;
  std::vector<int64_t> longest_, row_;   // positions of columns by length; rows by pivots
  std::vector<double> bt_;               // (p, r): R above the diagonal, reflections from it on
  std::vector<double> diagonal_, beta_;  // of R; of the reflections
};

}  // namespace

Reflection reflection(double head, double tail_squares) {
  if (tail_squares == 0) return {head, 0, 0};
  const double norm = std::sqrt(head * head + tail_squares);
  const double v0 = head <= 0 ? head - norm : -tail_squares / (head + norm);
  return {norm, 2 * v0 * v0 / (tail_squares + v0 * v0), 1 / v0};
}

double rank_tolerance(int64_t p, double epsilon, double rcond) {
  return rcond >= 0 ? rcond : 0x1p-43 + 2 * std::sqrt(static_cast<double>(p)) * epsilon;
}

Pivoted pivot(std::vector<double> a, const std::vector<int>& exponent, int64_t p, int64_t width,
              double tolerance) {
  Pivoted f{p,
            width,
            0,
            tolerance,
            std::move(a),
            std::vector<int64_t>(static_cast<size_t>(p)),
            std::vector<double>(static_cast<size_t>(p))};
  std::iota(f.column.begin(), f.column.end(), 0);
  const auto at = [&](int64_t i, int64_t j) -> double& { return f.a[i * width + j]; };
  ColumnSquares squares(f.a, p, width);
  for (int64_t j = 0; j < p; ++j) {
    const double unit = squares[j] > 0 ? 1 / std::sqrt(squares[j]) : 1;
    for (int64_t i = 0; i <= j; ++i) at(i, j) *= unit;
    squares.scale(j, unit);
    f.scale[j] = std::ldexp(unit, -exponent[j]);
  }
  double first = 0;
  std::vector<double> along(static_cast<size_t>(width));
  for (int64_t k = 0; k < p; ++k) {
    const int64_t best = squares.largest(k);
    const double norm = std::sqrt(squares[best]);
    if (k == 0) first = norm;
    if (!(norm > tolerance * first)) break;
    if (best != k) {
      for (int64_t i = 0; i < p; ++i) std::swap(at(i, k), at(i, best));
      std::swap(f.column[k], f.column[best]);
      squares.swap(k, best);
    }
    double tail = 0;
    for (int64_t i = k + 1; i < p; ++i) tail += at(i, k) * at(i, k);
    const Reflection h = reflection(at(k, k), tail);
    for (int64_t j = k + 1; j < width; ++j) along[j] = at(k, j);
    for (int64_t i = k + 1; i < p; ++i)
      for (int64_t j = k + 1; j < width; ++j) along[j] += at(i, k) * h.scale * at(i, j);
    for (int64_t j = k + 1; j < width; ++j) at(k, j) -= h.beta * along[j];
    for (int64_t i = k + 1; i < p; ++i) {
      const double v = at(i, k) * h.scale;
      for (int64_t j = k + 1; j < width; ++j) at(i, j) -= h.beta * v * along[j];
      at(i, k) = 0;
    }
    at(k, k) = h.norm;
    squares.leave(k);
    ++f.rank;
  }
  return f;
}

std::vector<double> Pivoted::solve() const {
  const int64_t t = width - p;
  std::vector<double> x(static_cast<size_t>(p * t));
  if (rank < p) {
    const LeastNorm least(*this);
    for (int64_t u = 0; u < t; ++u) least.solve(u, &x[u], t);
    return x;
  }
  std::vector<double> z(static_cast<size_t>(p));
  for (int64_t u = 0; u < t; ++u)
    for (int64_t i = p; i-- > 0;) {
      double sum = a[i * width + p + u];
      for (int64_t j = i + 1; j < p; ++j) sum -= a[i * width + j] * z[j];
      z[i] = sum / a[i * width + i];
      x[column[i] * t + u] = z[i] * scale[column[i]];
    }
  return x;
}

void Pivoted::describe(LeastSquares& solved) const {
  solved.rank = rank;
  if (rank < p) return;
  solved.order = column;
  for (int64_t k = 0; k < p; ++k) solved.scale[k] = scale[column[k]];
  invert(p, a.data(), width, solved.inverse.data());
}

}  // namespace gdcore
