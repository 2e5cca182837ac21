#include "fit/exact.hpp"

#include <algorithm>
#include <limits>

#include "fp_env.hpp"

namespace gdcore {
namespace {

constexpr int64_t block_rows = 64;

}  // namespace

template <class T>
Exact<T>::Exact(const Problem<T>& problem, const ExactOptions& options)
    : problem_(problem), options_(options) {
  p_ = problem.d + (problem.fit_intercept ? 1 : 0);
  width_ = p_ + problem.t;
  factor_.assign(static_cast<size_t>(p_ * width_), 0.0);
  exponent_.assign(static_cast<size_t>(p_), std::numeric_limits<int>::min());
  if (options.covariance != Covariance::none) squares_.resize(static_cast<size_t>(problem.t));
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
    const Problem<T> at_hand = host_rows_.from(problem_, row_);
    const int64_t rows = std::min(block_rows, at_hand.n);
    read(at_hand, rows, block);
    absorb(block, rows);
    row_ += rows;
    rows_ += rows;
    if (budget.spent(4 * rows * p_ * width_) && row_ < problem_.n) return false;
  }
  return true;
}

// The first `count` rows as a block of [X 1 y - offset], each times the root of its weight.
template <class T>
void Exact<T>::read(const Problem<T>& rows, int64_t count, std::vector<double>& block) {
  for (int64_t i = 0; i < count; ++i) {
    double* out = block.data() + i * width_;
    double root = 1;
    if (rows.sample_weight.data) {
      const double weight = rows.sample_weight.data[i * rows.sample_weight.stride];
      weight_sum_ += weight;
      weightless_ += weight == 0;
      root = std::sqrt(weight);
    }
    for (int64_t j = 0; j < rows.d; ++j) *out++ = root * rows.X.data[i * rows.X.rs + j * rows.X.cs];
    if (rows.fit_intercept) *out++ = root;
    for (int64_t u = 0; u < rows.t; ++u) {
      double value = rows.y.data[i * rows.y.rs + u * rows.y.cs];
      if (rows.offset.data) value -= rows.offset.data[i * rows.offset.rs + u * rows.offset.cs];
      *out++ = root * value;
    }
  }
}

template <class T>
void Exact<T>::go_on(const Problem<T>& rows) {
  problem_ = rows;
  host_rows_.restart();
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
  sum_residuals(block, rows);
}

// What reflections leave of the right sides below the factor is as long as the residuals.
template <class T>
void Exact<T>::sum_residuals(const std::vector<double>& block, int64_t rows) {
  for (size_t u = 0; u < squares_.size(); ++u) {
    double squares = 0;
    for (int64_t i = 0; i < rows; ++i) {
      const double left = block[i * width_ + p_ + static_cast<int64_t>(u)];
      squares += left * left;
    }
    squares_[u] = add(squares_[u], {squares, 0});
  }
}

// The weights' sum.
template <class T>
double Exact<T>::total() const {
  return problem_.sample_weight.data ? weight_sum_ : static_cast<double>(rows_);
}

// The penalty as p more rows: sqrt(weight_decay * divisor / 2) times the identity, or times what
// takes parameters to those of standardised columns. A column without spread keeps weight 0.
template <class T>
void Exact<T>::absorb_penalty() {
  if (options_.weight_decay == 0) return;
  const double elements = total() * static_cast<double>(problem_.t);
  const double root =
      std::sqrt(options_.weight_decay * scale_of(problem_.reduction, elements).divisor / 2);
  const int64_t d = problem_.d;
  std::vector<Spread> columns(static_cast<size_t>(d), {0, 1});
  if (options_.standardize)
    for (int64_t j = 0; j < d; ++j) columns[j] = spread(j);
  for (int64_t j = 0; j < p_; ++j) {
    std::vector<double> row(static_cast<size_t>(width_), 0.0);
    if (j < d) {
      row[j] = root * columns[j].deviation;
      if (columns[j].deviation == 0) {
        for (int64_t i = 0; i <= j; ++i) factor_[i * width_ + j] = 0;
        row[j] = 1;
      }
    } else if (options_.decay_intercept) {
      for (int64_t k = 0; k < d; ++k) row[k] = root * columns[k].mean;
      row[j] = root;
    } else {
      continue;
    }
    absorb(row, 1);
  }
}

// The spread of a column of X, from inner products of the factor's columns; around 0 without an
// intercept.
template <class T>
typename Exact<T>::Spread Exact<T>::spread(int64_t column) const {
  const auto at = [&](int64_t i, int64_t j) { return factor_[i * width_ + j]; };
  double squares = 0, ones = 0, along = 0;
  for (int64_t i = 0; i < p_; ++i) squares += at(i, column) * at(i, column);
  if (!problem_.fit_intercept)
    return {0, std::ldexp(std::sqrt(squares / total()), exponent_[column])};
  const int64_t d = problem_.d;
  for (int64_t i = 0; i < p_; ++i) {
    ones += at(i, d) * at(i, d);
    along += at(i, d) * at(i, column);
  }
  const double mean = along / ones;
  double around = 0;
  for (int64_t i = 0; i < p_; ++i) {
    const double from_mean = at(i, column) - mean * at(i, d);
    around += from_mean * from_mean;
  }
  const int exponent = exponent_[column] - exponent_[d];
  const double limit = tolerance();
  if (!(around > limit * limit * squares)) return {0, 0};
  return {std::ldexp(mean, exponent), std::ldexp(std::sqrt(around / ones), exponent)};
}

template <class T>
double Exact<T>::tolerance() const {
  return rank_tolerance(p_, std::numeric_limits<T>::epsilon(), options_.rcond);
}

// Sums about the mean are those of Q^T y without its part along the intercept's column, and of the
// residuals.
template <class T>
void Exact<T>::describe(LeastSquares& solved) const {
  const auto at = [&](int64_t i, int64_t j) { return factor_[i * width_ + j]; };
  const int64_t d = problem_.d;
  solved.rows = rows_ - weightless_;
  solved.centred = problem_.fit_intercept;
  solved.squares_known = true;
  double ones = 0;
  for (int64_t i = 0; solved.centred && i < p_; ++i) ones += at(i, d) * at(i, d);
  for (int64_t u = 0; u < problem_.t; ++u) {
    double along = 0, about = 0, all = 0;
    for (int64_t i = 0; solved.centred && i < p_; ++i) along += at(i, d) * at(i, p_ + u);
    const double mean = solved.centred ? along / ones : 0;
    for (int64_t i = 0; i < p_; ++i) {
      const double y = at(i, p_ + u), left = solved.centred ? y - mean * at(i, d) : y;
      about += left * left;
      all += y * y;
    }
    const double squares = rounded(squares_[u]);
    const double total = about + squares;
    solved.mean[u] = solved.centred ? std::ldexp(mean, -exponent_[d]) : 0;
    solved.squares[u] = squares;
    solved.total[u] = total > constant_share<T> * (all + squares) ? total : 0;
  }
}

template <class T>
Solution<T> Exact<T>::solve(LeastSquares* solved) {
  FpEnv env;
  for (int& exponent : exponent_) exponent = std::max(exponent, -1000);  // columns of zeros
  absorb_penalty();
  const auto size = static_cast<size_t>(p_ * problem_.t);
  if (solved) solved->reset(p_, problem_.t);
  for (double value : factor_)
    if (!std::isfinite(value))
      return {std::vector<T>(size, std::numeric_limits<T>::quiet_NaN()), 0};
  if (solved) describe(*solved);
  return solution_of<T>(pivot(factor_, exponent_, p_, width_, tolerance()), solved);
}

template class Exact<float>;
template class Exact<double>;

}  // namespace gdcore
