#include "fit/cholesky.hpp"

#include <cmath>
#include <limits>

#include "fit/normal_limits.hpp"

namespace gdcore {

template <class T>
bool NormalEquations<T>::solve(const Problem<T>& problem, const double* packed,
                               const ExactOptions& options) {
  if (sizeof(T) == 8 || (options.standardize && options.weight_decay != 0)) return false;
  p_ = problem.size() / problem.t;
  if (rank_tolerance(p_, std::numeric_limits<T>::epsilon(), options.rcond) > least_pivot)
    return false;
  t_ = problem.t;
  width_ = p_ + t_;
  LinearSums sums;
  sums.sample_weight = Quadratic<T>::tail(p_, t_, packed).sample_weight();
  const double divisor = scale_of(problem.reduction, problem.count(problem.n, sums)).divisor;
  const int64_t penalised = options.decay_intercept ? p_ : problem.d;
  if (!factorise(packed, options.weight_decay * divisor / 2, penalised)) return false;
  substitute();
  for (T param : params_)
    if (!std::isfinite(param)) return false;
  measure(packed);
  loss_ = static_cast<T>(squares_ / divisor);
  return true;
}

// G plus the penalty on its first columns, its columns scaled, becomes R (Golub, Van Loan, 4.2),
// its diagonal inverted, and the right sides behind it R^-T times them.
template <class T>
bool NormalEquations<T>::factorise(const double* packed, double penalty, int64_t penalised) {
  const auto added = [&](int64_t i) { return i < penalised ? penalty : 0; };
  a_.resize(static_cast<size_t>(p_ * width_));
  scale_.resize(static_cast<size_t>(p_));
  const double* const right = packed + p_ * (p_ + 1) / 2;
  const double* G = packed;
  for (int64_t i = 0; i < p_; G += p_ - i++) {
    const double square = *G + added(i);
    if (!(square > 0) || !std::isfinite(square)) return false;
    scale_[i] = std::ldexp(1.0, -(std::ilogb(square) >> 1));  // exact
  }
  G = packed;
  for (int64_t i = 0; i < p_; ++i) {
    double* const row = &a_[i * width_];
    for (int64_t j = i; j < p_; ++j) row[j] = scale_[i] * *G++ * scale_[j];
    row[i] += scale_[i] * added(i) * scale_[i];
    for (int64_t u = 0; u < t_; ++u) row[p_ + u] = scale_[i] * right[u * (p_ + 1) + i];
  }
  for (int64_t k = 0; k < p_; ++k) {
    double* const row = &a_[k * width_];
    if (!(row[k] > 1 / most_squares)) return false;
    const double inverse_root = 1 / std::sqrt(row[k]);
    for (int64_t j = k; j < width_; ++j) row[j] *= inverse_root;
    row[k] = inverse_root;
    for (int64_t i = k + 1; i < p_; ++i)
      for (int64_t j = i; j < width_; ++j) a_[i * width_ + j] -= row[i] * row[j];
  }
  inverse_.resize(static_cast<size_t>(p_));
  double squares = 0;
  for (int64_t i = 0; i < p_ && squares <= most_squares; ++i) squares += squares_of_inverse_row(i);
  return squares <= most_squares;
}

template <class T>
void NormalEquations<T>::describe(const Problem<T>& problem, const double* packed,
                                  LeastSquares& solved) const {
  solved.reset(p_, t_);
  solved.rank = p_;
  solved.centred = problem.fit_intercept;
  const double* const right = packed + p_ * (p_ + 1) / 2;
  const double weight = Quadratic<T>::tail(p_, t_, packed).sample_weight();
  for (int64_t u = 0; u < t_; ++u)
    solved.mean[u] = solved.centred ? right[u * (p_ + 1) + p_ - 1] / weight : 0;
  for (int64_t i = 0; i < p_; ++i) {
    solved.order[i] = i;
    solved.scale[i] = scale_[i];
    for (int64_t u = 0; u < t_; ++u)
      solved.params[i * t_ + u] = scale_[i] * a_[i * width_ + p_ + u];
  }
  std::vector<double> factor = a_;
  for (int64_t i = 0; i < p_; ++i) factor[i * width_ + i] = 1 / a_[i * width_ + i];
  invert(p_, factor.data(), width_, solved.inverse.data());
}

template <class T>
double NormalEquations<T>::squares_of_inverse_row(int64_t row) {
  double squares = 0;
  for (int64_t j = row; j < p_; ++j) inverse_[j] = j == row ? 1 : 0;
  for (int64_t j = row; j < p_; ++j) {
    inverse_[j] *= a_[j * width_ + j];
    for (int64_t k = j + 1; k < p_; ++k) inverse_[k] -= inverse_[j] * a_[j * width_ + k];
    squares += inverse_[j] * inverse_[j];
  }
  return squares;
}

template <class T>
void NormalEquations<T>::substitute() {
  params_.resize(static_cast<size_t>(p_ * t_));
  for (int64_t i = p_; i-- > 0;)
    for (int64_t u = 0; u < t_; ++u) {
      double& x = a_[i * width_ + p_ + u];
      for (int64_t j = i + 1; j < p_; ++j) x -= a_[i * width_ + j] * a_[j * width_ + p_ + u];
      x *= a_[i * width_ + i];
      params_[i * t_ + u] = static_cast<T>(scale_[i] * x);
    }
}

// The squared error at the parameters, and whether it is more than rounding errors.
template <class T>
void NormalEquations<T>::measure(const double* packed) {
  const double* const right = packed + p_ * (p_ + 1) / 2;
  double terms = 0;
  squares_ = 0;
  for (int64_t u = 0; u < t_; ++u) {
    const double* const c = right + u * (p_ + 1);
    const double* G = packed;
    double squares = c[p_];
    terms += c[p_];
    for (int64_t i = 0; i < p_; ++i) {
      const double w = params_[i * t_ + u];
      double along = *G * w - 2 * c[i];
      terms += *G++ * w * w;
      for (int64_t j = i + 1; j < p_; ++j) along += 2 * *G++ * params_[j * t_ + u];
      squares += w * along;
    }
    squares_ += squares;
  }
  squares_known_ = squares_ > Quadratic<T>::noise_floor_of(p_, terms);
}

template class NormalEquations<float>;
template class NormalEquations<double>;

}  // namespace gdcore
