#include "fit/curvature.hpp"

#include <algorithm>

#include "fit/host_rows.hpp"
#include "fp_env.hpp"

namespace gdcore {
namespace {

constexpr int64_t most_steps = 64;
constexpr int64_t most_basis = int64_t{1} << 24;  // doubles
constexpr double accuracy = 1e-6;                 // of the eigenvalue, relative

// Whether moments take less than min(p, about 32) passes over the rows (docs/experiments.md).
template <class T>
bool moments_cheaper(const Problem<T>& problem) {
  constexpr int64_t fewest = sizeof(T) == 4 ? 6 : 12, most = sizeof(T) == 4 ? 128 : 32;
  constexpr int64_t fewest_rows = 64;
  return problem.size() >= fewest && problem.size() <= most && problem.n >= fewest_rows;
}

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Eigenvalues of the tridiagonal (alpha, beta) below x, by the signs of its pivots (Sturm).
int64_t count_below(const std::vector<double>& alpha, const std::vector<double>& beta, double x) {
  int64_t count = 0;
  double pivot = 1;
  for (size_t i = 0; i < alpha.size(); ++i) {
    const double off = i == 0 ? 0 : beta[i - 1];
    pivot = alpha[i] - x - (i == 0 ? 0 : off * off / pivot);
    if (pivot == 0) pivot = -1e-300;  // below any entry of a matrix scaled to about 1
    if (pivot < 0) ++count;
  }
  return count;
}

// Newton's method from above on the characteristic polynomial, by the pivots and their derivatives:
// from there it converges, but for rounding.
double estimated_eigenvalue(const std::vector<double>& alpha, const std::vector<double>& beta,
                            double above) {
  constexpr int most = 30;
  if (alpha.size() == 1) return alpha[0];
  double x = above;
  for (int step = 0; step < most; ++step) {
    double pivot = alpha[0] - x, slope = -1, sum = slope / pivot;
    for (size_t i = 1; i < alpha.size(); ++i) {
      const double ratio = beta[i - 1] / pivot;
      pivot = alpha[i] - x - beta[i - 1] * ratio;
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

// No eigenvalue is above it (Gershgorin).
double bound_of(const std::vector<double>& alpha, const std::vector<double>& beta) {
  double bound = 0;
  for (size_t i = 0; i < alpha.size(); ++i)
    bound = std::max(
        bound, std::fabs(alpha[i]) + (i ? beta[i - 1] : 0) + (i + 1 < alpha.size() ? beta[i] : 0));
  return bound;
}

// The least number that all eigenvalues are below, by bisection about an estimate of it.
double largest_eigenvalue(const std::vector<double>& alpha, const std::vector<double>& beta,
                          double estimate) {
  double low = 0, high = bound_of(alpha, beta);
  const auto size = static_cast<int64_t>(alpha.size());
  const auto bracket = [&](double x) {
    if (x > low && x < high) (count_below(alpha, beta, x) == size ? high : low) = x;
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
double last_component(const std::vector<double>& alpha, const std::vector<double>& beta,
                      double value) {
  double before = 0, now = 1, norm = 1;
  for (size_t i = 0; i + 1 < alpha.size(); ++i) {
    if (beta[i] == 0) return 0;
    const double next = ((value - alpha[i]) * now - (i ? beta[i - 1] : 0) * before) / beta[i];
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

template <class T>
void Spectrum<T>::restart(const Problem<T>& problem, const Quadratic<T>* quadratic) {
  problem_ = problem;
  targets_ = problem.t;
  on_quadratic_ = quadratic != nullptr;
  if (on_quadratic_) quadratic_ = *quadratic;
  problem_.t = 1;
  problem_.offset = {nullptr, 0, 0};
  moments_due_ = !on_quadratic_ && targets_ > 0 && moments_cheaper(problem_);
  if (moments_due_) moments_.restart(problem_);
  problem_.y = {nullptr, 0, 0};
  pass_.restart();
  pass_.sums.reset(problem.d, 1);
  p_ = problem_.size();
  most_ = std::min({p_, most_steps, std::max<int64_t>(2, most_basis / std::max<int64_t>(p_, 1))});
  done_ = p_ == 0;
  exponent_ = 0;
  scale_ = largest_ = residual_ = 0;
  alpha_.clear();
  beta_.clear();
  if (static_cast<int64_t>(start_.size()) != p_) random_start();
  basis_.assign(start_.begin(), start_.end());
  direction_.assign(start_.begin(), start_.end());
}

// No special direction: uniform in +-[1, 2) before its length is made 1.
template <class T>
void Spectrum<T>::random_start() {
  start_.resize(static_cast<size_t>(p_));
  double norm = 0;
  for (int64_t i = 0; i < p_; ++i) {
    const uint32_t word =
        philox({{static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), 0, 1}}, 0, 0).at[0];
    start_[i] = (1.0 + word * 0x1p-32) * (word & 1 ? 1 : -1);
    norm += start_[i] * start_[i];
  }
  for (double& value : start_) value /= std::sqrt(norm);
}

template <class T>
bool Spectrum<T>::advance(double seconds) {
  FpEnv env;
  Budget budget(seconds);
  return advance(budget);
}

template <class T>
bool Spectrum<T>::advance(Budget& budget) {
  if (moments_due_ && !done_ && !sum_moments(budget)) return false;
  while (!done_) {
    if (on_quadratic_)
      quadratic_.product(direction_.data(), pass_.sums);
    else if (!pass_.run(*problem_.device, problem_.args(direction_.data()), budget))
      return false;
    step();
    if (budget.spent(0)) break;
  }
  return done_;
}

// False if that needs another call. Where their squares leave the range, the rows stay.
template <class T>
bool Spectrum<T>::sum_moments(Budget& budget) {
  if (!moments_.run(budget)) return false;
  moments_due_ = false;
  on_quadratic_ = moments_.moments.in_range(sizeof(T) == 4);
  if (on_quadratic_) quadratic_.assign(moments_.moments, problem_.fit_intercept, problem_.scaling);
  return true;
}

template <class T>
void Spectrum<T>::step() {
  const auto k = static_cast<int64_t>(alpha_.size());
  const double elements = problem_.count(problem_.n, pass_.sums) * static_cast<double>(targets_);
  scale_ = scale_of(problem_.reduction, elements).gradient;
  std::vector<double>& image = image_;
  image.assign(pass_.sums.weights.begin(), pass_.sums.weights.end());
  if (problem_.fit_intercept) image.push_back(pass_.sums.intercept[0]);
  if (k == 0) {
    double largest = 0;
    for (double value : image) largest = std::max(largest, std::fabs(value));
    if (std::isfinite(largest) && largest > 0) exponent_ = std::max(std::ilogb(largest), -1000);
  }
  const double shrink = std::ldexp(1.0, -exponent_);  // exact: keeps squares in range
  for (double& value : image) value *= shrink;
  const double* q = basis_.data() + k * p_;
  alpha_.push_back(dot(q, image.data(), p_));
  for (int pass = 0; pass < 2; ++pass) {
    for (int64_t row = 0; row <= k; ++row) {
      const double* other = basis_.data() + row * p_;
      const double along = dot(other, image.data(), p_);
      for (int64_t i = 0; i < p_; ++i) image[i] -= along * other[i];
    }
  }
  const double beta = std::sqrt(dot(image.data(), image.data(), p_));
  largest_ = estimated_eigenvalue(alpha_, beta_, bound_of(alpha_, beta_));
  residual_ = beta * last_component(alpha_, beta_, largest_);
  if (!std::isfinite(alpha_.back()) || !std::isfinite(beta)) {
    largest_ = residual_ = std::numeric_limits<double>::infinity();
    done_ = true;
  }
  if (!done_ && (k + 1 == most_ || residual_ <= accuracy * largest_)) {
    largest_ = largest_eigenvalue(alpha_, beta_, largest_);
    residual_ = beta * last_component(alpha_, beta_, largest_);
    done_ = true;
  }
  if (done_) return;
  beta_.push_back(beta);
  for (int64_t i = 0; i < p_; ++i) basis_.push_back(image[i] / beta);
  direction_.assign(basis_.end() - p_, basis_.end());
}

template class Spectrum<float>;
template class Spectrum<double>;

template <class T>
double largest_row(const Problem<T>& problem) {
  const bool sum = problem.reduction == Reduction::sum || problem.reduction == Reduction::half_sum;
  const LinearArgs<T> args = problem.args(nullptr);
  double largest = 0;
  HostRows<T> host_rows;
  for (int64_t first = 0; first < problem.n;) {
    const Problem<T> rows = host_rows.from(problem, first);
    for (int64_t i = 0; i < rows.n; ++i) {
      double squares = problem.fit_intercept ? 1 : 0;
      for (int64_t j = 0; j < problem.d; ++j) {
        const T given = rows.X.data[i * rows.X.rs + j * rows.X.cs];
        const double x = problem.scaling ? args.scaled_x(given, j) : given;
        squares += x * x;
      }
      if (sum && rows.sample_weight.data)
        squares *= rows.sample_weight.data[i * rows.sample_weight.stride];
      largest = std::max(largest, squares);
    }
    first += rows.n;
  }
  return scale_of(problem.reduction, static_cast<double>(problem.t)).gradient * largest;
}
template double largest_row<float>(const Problem<float>&);
template double largest_row<double>(const Problem<double>&);

}  // namespace gdcore
