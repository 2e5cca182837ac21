#include "fit/exact.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "fp_env.hpp"

namespace gdcore {
namespace {

constexpr int64_t block_rows = 64;

// The reflection that sends (head, tail) to (norm, 0): I - beta v v^T with v = (1, tail / v0)
// (Golub, Van Loan, 5.1).
struct Reflection {
  double norm, beta, scale;  // scale: 1 / v0
};

Reflection reflection(double head, double tail_squares) {
  if (tail_squares == 0) return {head, 0, 0};
  const double norm = std::sqrt(head * head + tail_squares);
  const double v0 = head <= 0 ? head - norm : -tail_squares / (head + norm);
  return {norm, 2 * v0 * v0 / (tail_squares + v0 * v0), 1 / v0};
}

// A power of two near 1 / x: scaling by it is exact.
double inverse_power(double x) {
  int exponent = 0;
  std::frexp(x, &exponent);
  return x > 0 ? std::ldexp(1.0, -exponent) : 1.0;
}

// R (p,p) and right sides (p,t), row-major with `width` columns, factorised again with column
// pivoting.
struct Pivoted {
  int64_t p, width, rank;
  std::vector<double> a;
  std::vector<int64_t> column;  // position -> column of X
  std::vector<double> scale;    // of each column of X
};

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
  // Leaves out a row. Where the difference keeps less than half of the digits, it is summed anew.
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

// The columns come scaled by 2^-exponent.
Pivoted pivot(std::vector<double> a, const std::vector<int>& exponent, int64_t p, int64_t width,
              double tolerance) {
  Pivoted f{p,
            width,
            0,
            std::move(a),
            std::vector<int64_t>(static_cast<size_t>(p)),
            std::vector<double>(static_cast<size_t>(p))};
  std::iota(f.column.begin(), f.column.end(), 0);
  const auto at = [&](int64_t i, int64_t j) -> double& { return f.a[i * width + j]; };
  ColumnSquares squares(f.a, p, width);
  for (int64_t j = 0; j < p; ++j) {
    const double power = inverse_power(std::sqrt(squares[j]));
    for (int64_t i = 0; i < p; ++i) at(i, j) *= power;
    squares.scale(j, power);
    f.scale[j] = std::ldexp(power, -exponent[j]);
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

// Solves R z = rhs (column `source` of a), all columns counting; in the order and scale of X's
// columns.
std::vector<double> back_substitute(const Pivoted& f, int64_t source) {
  std::vector<double> x(static_cast<size_t>(f.p)), z(static_cast<size_t>(f.p));
  for (int64_t i = f.p; i-- > 0;) {
    double sum = f.a[i * f.width + source];
    for (int64_t j = i + 1; j < f.p; ++j) sum -= f.a[i * f.width + j] * z[j];
    z[i] = sum / f.a[i * f.width + i];
    x[f.column[i]] = z[i] * f.scale[f.column[i]];
  }
  return x;
}

// Where fewer rows than columns count, the solution of least norm: it lies in the span of the rows,
// made orthonormal by modified Gram-Schmidt, twice. R = lower @ basis, and lower z = rhs gives the
// solution's coordinates z.
std::vector<double> least_norm(const Pivoted& f, int64_t source) {
  const size_t r = static_cast<size_t>(f.rank), p = static_cast<size_t>(f.p);
  std::vector<double> basis(r * p, 0.0), z(r), x(p, 0.0), lower(r * r, 0.0);
  for (size_t i = 0; i < r; ++i) {
    double* const row = basis.data() + i * p;
    for (size_t j = i; j < p; ++j)
      row[f.column[j]] =
          f.a[i * static_cast<size_t>(f.width) + j] / f.scale[static_cast<size_t>(f.column[j])];
    for (int pass = 0; pass < 2; ++pass) {
      for (size_t k = 0; k < i; ++k) {
        const double* const q = basis.data() + k * p;
        const double along = std::inner_product(q, q + p, row, 0.0);
        lower[i * r + k] += along;
        for (size_t j = 0; j < p; ++j) row[j] -= along * q[j];
      }
    }
    const double norm = std::sqrt(std::inner_product(row, row + p, row, 0.0));
    lower[i * r + i] = norm;
    for (size_t j = 0; j < p; ++j) row[j] /= norm;
    z[i] = f.a[i * static_cast<size_t>(f.width) + static_cast<size_t>(source)];
    for (size_t k = 0; k < i; ++k) z[i] -= lower[i * r + k] * z[k];
    z[i] /= norm;
  }
  for (size_t i = 0; i < r; ++i)
    for (size_t j = 0; j < p; ++j) x[j] += z[i] * basis[i * p + j];
  return x;
}

}  // namespace

template <class T>
Exact<T>::Exact(const Problem<T>& problem, double weight_decay)
    : problem_(problem), weight_decay_(weight_decay) {
  p_ = problem.d + (problem.fit_intercept ? 1 : 0);
  width_ = p_ + problem.t;
  factor_.assign(static_cast<size_t>(p_ * width_), 0.0);
  exponent_.assign(static_cast<size_t>(p_), std::numeric_limits<int>::min());
}

template <class T>
bool Exact<T>::advance(double seconds) {
  FpEnv env;
  Budget budget(seconds);
  return advance(budget);
}

template <class T>
bool Exact<T>::advance(Budget& budget) {
  std::vector<double> block(static_cast<size_t>(block_rows * width_));
  while (row_ < problem_.n) {
    const int64_t rows = std::min(block_rows, problem_.n - row_);
    for (int64_t i = 0; i < rows; ++i) {
      double* out = block.data() + i * width_;
      const int64_t row = row_ + i;
      double root = 1;
      if (problem_.sample_weight.data) {
        const double weight = problem_.sample_weight.data[row * problem_.sample_weight.stride];
        weight_sum_ += weight;
        root = std::sqrt(weight);
      }
      for (int64_t j = 0; j < problem_.d; ++j)
        *out++ = root * problem_.X.data[row * problem_.X.rs + j * problem_.X.cs];
      if (problem_.fit_intercept) *out++ = root;
      for (int64_t u = 0; u < problem_.t; ++u) {
        double value = problem_.y.data[row * problem_.y.rs + u * problem_.y.cs];
        if (problem_.offset.data)
          value -= problem_.offset.data[row * problem_.offset.rs + u * problem_.offset.cs];
        *out++ = root * value;
      }
    }
    absorb(block, rows);
    row_ += rows;
    rows_ += rows;
    if (budget.spent(4 * rows * p_ * width_) && row_ < problem_.n) return false;
  }
  return true;
}

template <class T>
void Exact<T>::go_on(const Problem<T>& rows) {
  problem_ = rows;
  row_ = 0;
}

// Scales the block's columns by powers of two, so that no square over- or underflows; exact, so
// normal data keeps its bits. A column that grows takes its part of the factor along.
template <class T>
void Exact<T>::scale(std::vector<double>& block, int64_t rows) {
  constexpr int unset = std::numeric_limits<int>::min(), smallest = -1000;
  for (int64_t j = 0; j < p_; ++j) {
    double largest = 0;
    for (int64_t i = 0; i < rows; ++i)
      largest = std::max(largest, std::fabs(block[i * width_ + j]));
    int& exponent = exponent_[static_cast<size_t>(j)];
    if (std::isfinite(largest) && largest > 0) {
      const int wanted = std::max(std::ilogb(largest), smallest);
      if (exponent != unset && wanted > exponent)
        for (int64_t i = 0; i <= j; ++i)
          factor_[i * width_ + j] = std::ldexp(factor_[i * width_ + j], exponent - wanted);
      exponent = std::max(exponent, wanted);
    }
    if (exponent == unset) continue;
    const double power = std::ldexp(1.0, -exponent);
    for (int64_t i = 0; i < rows; ++i) block[i * width_ + j] *= power;
  }
}

// factor_ becomes the factor of itself stacked on the rows of the block, which is destroyed.
template <class T>
void Exact<T>::absorb(std::vector<double>& block, int64_t rows) {
  scale(block, rows);
  ++absorbed_;
  std::vector<double> along(static_cast<size_t>(width_));
  for (int64_t j = 0; j < p_; ++j) {
    double* const top = factor_.data() + j * width_;
    double squares = 0;
    for (int64_t i = 0; i < rows; ++i) squares += block[i * width_ + j] * block[i * width_ + j];
    const Reflection h = reflection(top[j], squares);
    if (h.beta == 0) continue;
    std::copy(top + j + 1, top + width_, along.begin() + j + 1);
    for (int64_t i = 0; i < rows; ++i) {
      const double* const row = block.data() + i * width_;
      const double v = row[j] * h.scale;
      for (int64_t k = j + 1; k < width_; ++k) along[k] += v * row[k];
    }
    for (int64_t k = j + 1; k < width_; ++k) top[k] -= h.beta * along[k];
    for (int64_t i = 0; i < rows; ++i) {
      double* const row = block.data() + i * width_;
      const double v = h.beta * (row[j] * h.scale);
      for (int64_t k = j + 1; k < width_; ++k) row[k] -= v * along[k];
    }
    top[j] = h.norm;
  }
}

// The penalty as p more rows: sqrt(weight_decay * divisor / 2) times the identity.
template <class T>
void Exact<T>::absorb_penalty() {
  if (weight_decay_ == 0) return;
  const double elements = (problem_.sample_weight.data ? weight_sum_ : static_cast<double>(rows_)) *
                          static_cast<double>(problem_.t);
  const double root = std::sqrt(weight_decay_ * scale_of(problem_.reduction, elements).divisor / 2);
  for (int64_t j = 0; j < p_; ++j) {
    std::vector<double> row(static_cast<size_t>(width_), 0.0);
    row[j] = root;
    absorb(row, 1);
  }
}

template <class T>
typename Exact<T>::Solution Exact<T>::solve() {
  FpEnv env;
  absorb_penalty();
  for (int& exponent : exponent_) exponent = std::max(exponent, -1000);  // columns of zeros
  Solution solution{
      std::vector<T>(static_cast<size_t>(p_ * problem_.t), std::numeric_limits<T>::quiet_NaN()), 0};
  for (double value : factor_)
    if (!std::isfinite(value)) return solution;
  // What the data's rounding leaves of a dependent column, and what that of the blocks adds: p
  // eliminations in each of b blocks, at random, sqrt(p b) eps, which p eps + b eps is above.
  const double tolerance =
      static_cast<double>(std::max<int64_t>(p_, 1)) * std::numeric_limits<T>::epsilon() +
      static_cast<double>(absorbed_) * std::numeric_limits<double>::epsilon();
  const Pivoted f = pivot(factor_, exponent_, p_, width_, tolerance);
  for (int64_t u = 0; u < problem_.t; ++u) {
    const std::vector<double> x = f.rank == p_ ? back_substitute(f, p_ + u) : least_norm(f, p_ + u);
    for (int64_t j = 0; j < p_; ++j) solution.params[j * problem_.t + u] = static_cast<T>(x[j]);
  }
  solution.rank = f.rank;
  return solution;
}

template class Exact<float>;
template class Exact<double>;

}  // namespace gdcore
