#include "fit/goal.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "fit/pivoted_cholesky.hpp"
#include "fit/scaling.hpp"

namespace gdcore {
namespace {

double low_part(double) { return 0; }
double low_part(Pair x) { return x.lo; }

template <class Number>
Number number(double hi, double lo);
template <>
double number<double>(double hi, double) {
  return hi;
}
template <>
Pair number<Pair>(double hi, double lo) {
  return {hi, lo};
}

// Scales the columns to unit norm, and counts the pivots above tolerance^2 times the first one.
template <class Number>
int64_t scale_and_factorise(int64_t p, int64_t t, double tolerance, std::vector<double>& scale,
                            PivotedCholesky<Number>& factor) {
  scale.resize(static_cast<size_t>(p));
  for (int64_t j = 0; j < p; ++j) {
    const double square = rounded(factor.at(j, j));
    scale[j] = square > 0 ? 1 / std::sqrt(square) : 0.0;
  }
  for (int64_t i = 0; i < p; ++i)
    for (int64_t j = i; j < p + t; ++j)
      factor.at(i, j) = factor.at(i, j) * scale[i] * (j < p ? scale[j] : 1.0);
  return factor.factorise(
      [](double square, int64_t) { return square; },
      [&](double square, double first) { return square > tolerance * tolerance * first; });
}

template <class T>
constexpr double least_tol() {
  return sizeof(T) == 4 ? 0x1p-13 : 0x1p-43;
}

template <class T>
bool is_constant(double variance, double mean_square) {
  constexpr double rounding = 2 * std::numeric_limits<T>::epsilon();
  return variance <= rounding * rounding * mean_square;
}

// How far the mean squared error may be above its least, where y has this variance and this mean
// square.
template <class T>
double allowed_gap(double variance, double mean_square, double tol, int64_t p) {
  const double noise = default_tolerance<T>(p) * default_tolerance<T>(p) * mean_square;
  const double least = std::numeric_limits<double>::min();  // y is 0
  if (is_constant<T>(variance, mean_square)) return std::max(noise, least);
  const double t = std::max(std::min(tol, 0.03), least_tol<T>());
  return std::max({t * t * variance, std::min(noise, 1e-6 * variance), least});
}

// From the unit of "mean" to that of the objective.
double objective_unit(const Scale& scale, double sample_weight) {
  return sample_weight / scale.divisor;
}

// |g|^2 <= 2 trace(H) gap, since no eigenvalue is above the trace.
double bound_of_norm(double trace, double allowed, double sample_weight,
                     const Objective& objective) {
  constexpr double slack = 2;  // for the rounding errors of a gradient
  trace = objective.scale.gradient * trace +
          objective.weight_decay * static_cast<double>(objective.decayed);
  return slack * std::sqrt(2 * trace * allowed * objective_unit(objective.scale, sample_weight));
}

}  // namespace

template <class T>
void Goal<T>::assign(const Quadratic<T>& quadratic, const Objective& objective, double tol,
                     const Returned& returned) {
  constexpr int64_t most_in_pairs = 512;
  quadratic_ = &quadratic;
  objective_ = objective;
  returned_ = returned;
  p_ = quadratic.parameters();
  t_ = quadratic.targets();
  const double unit = objective_unit(objective.scale, quadratic.sample_weight());
  const double penalty = objective.weight_decay / objective.scale.gradient;
  trace_ = 0;
  for (int64_t a = 0; a < p_; ++a) {
    trace_ += objective.scale.gradient * quadratic.G(a, a).hi;
    if (a < objective.decayed) trace_ += objective.weight_decay;
  }
  minimiser_.assign(static_cast<size_t>(p_ * t_), 0.0);
  minimiser_low_ = minimiser_;
  allowed_.resize(static_cast<size_t>(t_));
  spread_.resize(static_cast<size_t>(t_));
  for (int64_t u = 0; u < t_; ++u) {
    const bool constant = is_constant<T>(quadratic.variance(u), quadratic.mean_square(u));
    spread_[u] = constant ? 0.0 : unit * quadratic.variance(u);
    allowed_[u] = unit * allowed_gap<T>(quadratic.variance(u), quadratic.mean_square(u), tol, p_);
  }
  const auto solve = [&](auto zero, double tolerance) {
    using Number = decltype(zero);
    PivotedCholesky<Number> factor(p_, t_);
    for (int64_t a = 0; a < p_; ++a) {
      for (int64_t b = a; b < p_; ++b) {
        const Pair g = quadratic.G(a, b);
        factor.at(a, b) = number<Number>(g.hi, g.lo);
      }
      if (a < objective.decayed) factor.at(a, a) = factor.at(a, a) + number<Number>(penalty, 0);
      for (int64_t u = 0; u < t_; ++u) {
        const Pair c = quadratic.c(a, u);
        factor.at(a, p_ + u) = number<Number>(c.hi, c.lo);
      }
    }
    std::vector<double> scale;
    rank_ = scale_and_factorise(p_, t_, tolerance, scale, factor);
    std::vector<Number> x;
    for (int64_t u = 0; u < t_; ++u) {
      factor.solve(u, x);
      for (int64_t a = 0; a < p_; ++a) {
        const Number w = x[a] * scale[a];
        minimiser_[a * t_ + u] = rounded(w);
        minimiser_low_[a * t_ + u] = low_part(w);
      }
    }
  };
  known_ = true;
  if (sizeof(T) == 4 || p_ <= most_in_pairs) {
    solve(Sum<T>{}, default_tolerance<T>(p_));
  } else {
    solve(0.0, std::sqrt(static_cast<double>(p_)) * 0x1p-24);
    known_ = rank_ == p_;
  }
  for (double value : minimiser_) known_ = known_ && std::isfinite(value);
}

template <class T>
double Goal<T>::norm_bound(const Quadratic<T>& quadratic, const Objective& objective, double tol) {
  const int64_t p = quadratic.parameters();
  double trace = 0, sum = 0;
  for (int64_t a = 0; a < p; ++a) trace += quadratic.G(a, a).hi;
  for (int64_t u = 0; u < quadratic.targets(); ++u)
    sum += allowed_gap<T>(quadratic.variance(u), quadratic.mean_square(u), tol, p);
  return bound_of_norm(trace, sum, quadratic.sample_weight(), objective);
}

template <class T>
double Goal<T>::norm_bound(int64_t p, int64_t t, const double* packed, const Objective& objective,
                           double tol) {
  double trace = 0, sum = 0;
  const double* diagonal = packed;
  for (int64_t a = 0; a < p; diagonal += p - a++) trace += *diagonal;
  const typename Quadratic<T>::Tail tail = Quadratic<T>::tail(p, t, packed);
  for (int64_t u = 0; u < t; ++u)
    sum += allowed_gap<T>(tail.variance(u), tail.mean_square(u), tol, p);
  return bound_of_norm(trace, sum, tail.sample_weight(), objective);
}

template <class T>
bool Goal<T>::reached(const LinearSums& sums, const T* params) const {
  const auto split = static_cast<int64_t>(sums.weights.size());
  for (int64_t u = 0; u < t_; ++u) {
    double along = 0, squares = 0;
    for (int64_t a = 0; a < p_; ++a) {
      const int64_t i = a * t_ + u;
      const double sum = i < split ? sums.weights[i] : sums.intercept[i - split];
      const double w = params[i];
      double g = objective_.scale.gradient * sum;
      if (a < objective_.decayed) g += objective_.weight_decay * w;
      along += g * (w - minimiser_[i]);
      squares += g * g;
    }
    if (trace_ > 0 && !(std::max(along / 2, squares / (2 * trace_)) <= allowed(u))) return false;
  }
  return true;
}

template <class T>
std::vector<T> Goal<T>::returned(const T* params) const {
  std::vector<T> all(params, params + p_ * t_);
  if (returned_.scaling)
    from_scaled(returned_.scaling, returned_.d, t_, returned_.fit_intercept, all.data());
  return all;
}

template <class T>
double Goal<T>::gap(const T* params, int64_t u) const {
  std::vector<Sum<T>> delta;
  return gap_of(params, u, nullptr, delta);
}

// Half of (w - w*).H (w - w*), in the arithmetic of the sums. With a scaling, for parameters of the
// columns as given.
template <class T>
double Goal<T>::gap_of(const T* params, int64_t u, const double* scaling,
                       std::vector<Sum<T>>& delta) const {
  const int64_t d = returned_.d;
  delta.assign(static_cast<size_t>(p_), Sum<T>{});
  Pair intercept{};
  for (int64_t a = 0; a < p_; ++a) {
    Pair w{static_cast<double>(params[a * t_ + u]), 0.0};
    if (scaling && a < d) {
      intercept = intercept + w * scaling[a];
      w = scaling[d + a] == 0 ? Pair{} : w / Pair{scaling[d + a], 0.0};
    } else if (scaling) {
      w = w + intercept - Pair{scaling[2 * d + u], 0.0};
    }
    w = w - Pair{minimiser_[a * t_ + u], minimiser_low_[a * t_ + u]};
    delta[a] = number<Sum<T>>(w.hi, w.lo);
  }
  Sum<T> energy{};
  double decay = 0;
  for (int64_t a = 0; a < p_; ++a) {
    Sum<T> sum{};
    for (int64_t b = 0; b < p_; ++b) {
      const Pair g = quadratic_->G(a, b);
      sum = sum + number<Sum<T>>(g.hi, g.lo) * delta[b];
    }
    energy = energy + sum * delta[a];
    if (a < objective_.decayed) decay += rounded(delta[a]) * rounded(delta[a]);
  }
  return std::max(0.0, objective_.scale.gradient * rounded(energy) / 2) +
         objective_.weight_decay * decay / 2;
}

template <class T>
bool Goal<T>::confirmed(const T* params) const {
  const std::vector<T> all = returned(params);
  std::vector<Sum<T>> delta;
  for (int64_t u = 0; u < t_; ++u)
    if (!(gap_of(all.data(), u, returned_.scaling, delta) <= 4 * allowed(u))) return false;
  return true;
}

template <class T>
double Goal<T>::r2_lost(const T* params) const {
  const std::vector<T> all = returned(params);
  std::vector<Sum<T>> delta;
  double most = std::numeric_limits<double>::quiet_NaN();
  for (int64_t u = 0; u < t_; ++u) {
    if (spread(u) == 0) continue;
    most = std::fmax(most, gap_of(all.data(), u, returned_.scaling, delta) / spread(u));
  }
  return most;
}

template class Goal<float>;
template class Goal<double>;

}  // namespace gdcore
