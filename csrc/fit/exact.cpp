#include "fit/exact.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "fp_env.hpp"

namespace gdcore {
namespace {

constexpr int64_t block_rows = 64;

// The reflection that sends (head, tail) to (norm, 0): I - beta v v^T with v = (1, tail / v0) (Golub, Van Loan, 5.1).
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

// R (p,p) and right sides (p,t), row-major with `width` columns, factorised again with column pivoting.
struct Pivoted {
  int64_t p, width, rank;
  std::vector<double> a;
  std::vector<int64_t> column;  // position -> column of X
  std::vector<double> scale;    // of each column of X
};

Pivoted pivot(std::vector<double> a, int64_t p, int64_t width, double tolerance) {
  Pivoted f{p, width, 0, std::move(a), std::vector<int64_t>(static_cast<size_t>(p)),
            std::vector<double>(static_cast<size_t>(p))};
  std::iota(f.column.begin(), f.column.end(), 0);
  const auto at = [&](int64_t i, int64_t j) -> double& { return f.a[i * width + j]; };
  const auto below = [&](int64_t row, int64_t j) {
    double sum = 0;
    for (int64_t i = row; i < p; ++i) sum += at(i, j) * at(i, j);
    return sum;
  };
  for (int64_t j = 0; j < p; ++j) {
    f.scale[j] = inverse_power(std::sqrt(below(0, j)));
    for (int64_t i = 0; i < p; ++i) at(i, j) *= f.scale[j];
  }
  double first = 0;
  for (int64_t k = 0; k < p; ++k) {
    int64_t best = k;
    double most = -1;
    for (int64_t j = k; j < p; ++j) {
      const double squares = below(k, j);
      if (squares > most) most = squares, best = j;
    }
    if (k == 0) first = std::sqrt(most);
    if (!(std::sqrt(most) > tolerance * first)) break;
    if (best != k) {
      for (int64_t i = 0; i < p; ++i) std::swap(at(i, k), at(i, best));
      std::swap(f.column[k], f.column[best]);
    }
    const Reflection h = reflection(at(k, k), below(k + 1, k));
    std::vector<double> along(static_cast<size_t>(width), 0.0);
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
    ++f.rank;
  }
  return f;
}

// Solves R11 z = rhs (column `source` of a) for the first `rank` unknowns, into x (p) in X's columns and scale.
void back_substitute(const Pivoted& f, int64_t source, double sign, std::vector<double>& x) {
  std::vector<double> z(static_cast<size_t>(f.rank));
  for (int64_t i = f.rank; i-- > 0;) {
    double sum = sign * f.a[i * f.width + source];
    for (int64_t j = i + 1; j < f.rank; ++j) sum -= f.a[i * f.width + j] * z[j];
    z[i] = sum / f.a[i * f.width + i];
  }
  for (int64_t i = 0; i < f.rank; ++i) x[f.column[i]] = z[i] * f.scale[f.column[i]];
}

// Orthonormal basis of the null space of X, in X's columns: modified Gram-Schmidt, twice.
std::vector<std::vector<double>> null_space(const Pivoted& f) {
  std::vector<std::vector<double>> basis;
  for (int64_t k = f.rank; k < f.p; ++k) {
    std::vector<double> v(static_cast<size_t>(f.p), 0.0);
    back_substitute(f, k, -1.0, v);
    v[f.column[k]] = f.scale[f.column[k]];
    for (int pass = 0; pass < 2; ++pass) {
      for (const auto& q : basis) {
        const double along = std::inner_product(v.begin(), v.end(), q.begin(), 0.0);
        for (size_t i = 0; i < v.size(); ++i) v[i] -= along * q[i];
      }
      const double norm = std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
      for (double& value : v) value /= norm;
    }
    basis.push_back(std::move(v));
  }
  return basis;
}

}  // namespace

template <class T>
Exact<T>::Exact(const Problem<T>& problem, double weight_decay) : problem_(problem), weight_decay_(weight_decay) {
  p_ = problem.d + (problem.fit_intercept ? 1 : 0);
  width_ = p_ + problem.t;
  factor_.assign(static_cast<size_t>(p_ * width_), 0.0);
}

template <class T>
bool Exact<T>::advance(double seconds) {
  FpEnv env;
  Budget budget(seconds);
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
        if (problem_.offset.data) value -= problem_.offset.data[row * problem_.offset.rs + u * problem_.offset.cs];
        *out++ = root * value;
      }
    }
    absorb(block, rows);
    row_ += rows;
    if (budget.spent(4 * rows * p_ * width_) && row_ < problem_.n) return false;
  }
  return true;
}

// factor_ becomes the factor of itself stacked on the rows of the block, which is destroyed.
template <class T>
void Exact<T>::absorb(std::vector<double>& block, int64_t rows) {
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
  const double elements =
      (problem_.sample_weight.data ? weight_sum_ : static_cast<double>(problem_.n)) * static_cast<double>(problem_.t);
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
  const double tolerance = static_cast<double>(std::max<int64_t>(p_, 1)) * std::numeric_limits<T>::epsilon();
  const Pivoted f = pivot(factor_, p_, width_, tolerance);
  const auto basis = null_space(f);
  Solution solution{std::vector<T>(static_cast<size_t>(p_ * problem_.t)), f.rank};
  for (int64_t u = 0; u < problem_.t; ++u) {
    std::vector<double> x(static_cast<size_t>(p_), 0.0);
    back_substitute(f, p_ + u, 1.0, x);
    for (const auto& q : basis) {
      const double along = std::inner_product(x.begin(), x.end(), q.begin(), 0.0);
      for (size_t i = 0; i < x.size(); ++i) x[i] -= along * q[i];
    }
    for (int64_t j = 0; j < p_; ++j) solution.params[j * problem_.t + u] = static_cast<T>(x[j]);
  }
  return solution;
}

template class Exact<float>;
template class Exact<double>;

}  // namespace gdcore
