#include "fit/rolling.hpp"

#include <algorithm>

#include "fit/pivoted_cholesky.hpp"
#include "fit/scaling.hpp"
#include "fp_env.hpp"

namespace gdcore {
namespace {

// Where all pivots of a window's moments are larger, rounding errors of the moments change the
// parameters by less than rounding them to T does. Other windows are solved from their rows.
template <class T>
constexpr double clear_pivot = sizeof(T) == 4 ? 0x1p-8 : 0x1p-20;

}  // namespace

template <class T>
Rolling<T>::Rolling(const Problem<T>& problem, const RollingOptions& options, std::vector<T> start)
    : problem_(problem),
      options_(options),
      start_(std::move(start)),
      count_((problem.n - options.window) / options.step + 1),
      windows_(problem, options.window, options.step),
      scaling_(static_cast<size_t>(options.standardize && !options.exact ? 2 * problem.d + problem.t
                                                                         : 0)) {}

template <class T>
Problem<T> Rolling<T>::rows() const {
  Problem<T> rows = windows_.rows();
  rows.scaling = scaling();
  return rows;
}

template <class T>
bool Rolling<T>::advance(double seconds) {
  FpEnv env;
  Budget budget(seconds);
  while (done() < count_ && !out_of_range_) {
    if (!fit_window(budget)) return false;
    if (budget.spent(Budget::unit)) break;
  }
  return done() == count_ || out_of_range_;
}

// Goes on where it was; true once the window is done, or out of range.
template <class T>
bool Rolling<T>::fit_window(Budget& budget) {
  if (stage_ == Stage::moments) {
    if (!windows_.next(budget)) return false;
    const Moments& m = windows_.moments();
    if (m.hi[m.d * m.columns() + m.d] == 0) {
      record_empty();
      return true;
    }
    out_of_range_ = !m.in_range(sizeof(T) == 4);
    if (out_of_range_) return true;
    if (scaling()) find_scaling<T>(m, problem_.fit_intercept, scaling_.data());
    quadratic_.assign(m, problem_.fit_intercept, scaling());
    stage_ = Stage::solution;
  }
  if (options_.exact) {
    if (stage_ == Stage::solution && !solve(budget)) return false;
    if (out_of_range_) return true;
  } else if (stage_ == Stage::solution) {
    spectrum_.restart(rows(), &quadratic_);
    stage_ = Stage::curvature;
  }
  if (stage_ == Stage::curvature) {
    if (!spectrum_.advance(budget)) return false;
    begin_descent();
    if (out_of_range_) return true;
  }
  outcome_ = descent_.advance(budget);
  if (outcome_ == Outcome::running) return false;
  record();
  return true;
}

template <class T>
bool Rolling<T>::solve(Budget& budget) {
  if (!exact_) {
    const Problem<T> rows = windows_.rows();
    const Pivoted f = factorise(rows, windows_.moments(), *options_.exact);
    budget.spent(64 * f.p * f.p * f.width);
    if (f.smallest_pivot() > std::max(clear_pivot<T>, f.tolerance)) {
      begin_loss(solution_of<T>(f));
      return true;
    }
    exact_.emplace(rows, *options_.exact);
  }
  if (!exact_->advance(budget)) return false;
  begin_loss(exact_->solve());
  exact_.reset();
  return true;
}

// A descent of no epochs tells the loss.
template <class T>
void Rolling<T>::begin_loss(Solution<T> solution) {
  out_of_range_ = std::any_of(solution.params.begin(), solution.params.end(),
                              [](T param) { return !std::isfinite(param); });
  if (out_of_range_) return;
  rank_ = solution.rank;
  lr_ = std::numeric_limits<double>::quiet_NaN();
  DescentState<T> state;
  state.params = std::move(solution.params);
  descent_.restart(windows_.rows(), DescentOptions{}, state, 0, &quadratic_, false);
  descent_.set_constant_lr(1);
  stage_ = Stage::descent;
}

template <class T>
void Rolling<T>::begin_descent() {
  const double total =
      spectrum_.largest() + spectrum_.residual() + options_.descent.sgd.weight_decay;
  lr_ = options_.lr;
  if (lr_ == 0) lr_ = total == 0 ? 1.0 : options_.share / total;
  const bool usable = options_.lr != 0 || total == 0 || 1 / total < std::numeric_limits<T>::max();
  out_of_range_ = !(std::isfinite(total) && usable);
  if (out_of_range_) return;
  DescentState<T> state;
  state.params = start_;
  const Problem<T> problem = rows();
  if (problem.scaling)
    to_scaled(problem.scaling, problem.d, problem.t, problem.fit_intercept, state.params.data());
  if (options_.auto_momentum) {
    constexpr double none = std::numeric_limits<double>::quiet_NaN();
    const auto rates = auto_rates(quadratic_, problem, options_.descent, state.params.data(),
                                  options_.epochs, {none, none});
    lr_ = rates.lr;
    options_.descent.sgd.momentum = rates.momentum;
  }
  descent_.restart(problem, options_.descent, state, options_.epochs, &quadratic_, false);
  descent_.set_constant_lr(lr_);
  stage_ = Stage::descent;
}

template <class T>
void Rolling<T>::record() {
  const DescentState<T>& end = descent_.state();
  std::vector<T> params = end.params;
  if (const double* scaling = this->scaling())
    from_scaled(scaling, problem_.d, problem_.t, problem_.fit_intercept, params.data());
  results_.params.insert(results_.params.end(), params.begin(), params.end());
  results_.loss.push_back(descent_.loss_below_noise() ? loss_of_rows() : descent_.loss());
  results_.first_loss.push_back(end.first_loss);
  results_.lr.push_back(lr_);
  results_.momentum.push_back(options_.descent.sgd.momentum);
  results_.r2_lost.push_back(descent_.r2_lost());
  results_.curvature.push_back(options_.exact ? std::numeric_limits<double>::quiet_NaN()
                                              : spectrum_.largest());
  results_.epochs.push_back(end.epoch);
  results_.rank.push_back(rank_);
  results_.outcome.emplace_back(outcome_);
  stage_ = Stage::moments;
}

template <class T>
void Rolling<T>::record_empty() {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  results_.params.insert(results_.params.end(), start_.begin(), start_.end());
  results_.loss.push_back(static_cast<T>(nan));
  results_.first_loss.push_back(static_cast<T>(nan));
  results_.lr.push_back(nan);
  results_.momentum.push_back(nan);
  results_.r2_lost.push_back(nan);
  results_.curvature.push_back(nan);
  results_.epochs.push_back(0);
  results_.rank.push_back(0);
  results_.outcome.emplace_back(std::nullopt);
}

template <class T>
T Rolling<T>::loss_of_rows() const {
  DescentState<T> here;
  here.params = descent_.state().params;
  Descent<T> still(rows(), DescentOptions{}, std::move(here), 0);
  still.set_constant_lr(lr_);
  while (still.advance(1.0) == Outcome::running) continue;
  return still.loss();
}

template class WindowMoments<float>;
template class WindowMoments<double>;
template class Rolling<float>;
template class Rolling<double>;

}  // namespace gdcore
