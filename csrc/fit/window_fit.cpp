#include "fit/window_fit.hpp"

#include <algorithm>
#include <limits>

#include "fit/pivoted_cholesky.hpp"
#include "fit/scaling.hpp"

namespace gdcore {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Where all pivots of a window's moments are larger, rounding errors of the moments change the
// parameters by less than rounding them to T does. Other windows are solved from their rows.
template <class T>
constexpr double clear_pivot = sizeof(T) == 4 ? 0x1p-8 : 0x1p-20;

}  // namespace

template <class T>
RollingResults<T>::RollingResults(int64_t count, int64_t size) {
  const auto n = static_cast<size_t>(count);
  params.resize(n * static_cast<size_t>(size));
  for (auto* numbers : {&loss, &first_loss}) numbers->resize(n);
  for (auto* numbers : {&lr, &momentum, &curvature, &r2_lost}) numbers->resize(n);
  for (auto* numbers : {&epochs, &rank}) numbers->resize(n);
  outcome.resize(n);
}

template <class T>
WindowFit<T>::WindowFit(const RollingTask<T>& task)
    : task_(task), moments_(task.problem, task.decay) {
  if (task.options.standardize && !task.options.exact)
    scaling_.resize(static_cast<size_t>(2 * task.problem.d + task.problem.t));
}

template <class T>
Problem<T> WindowFit<T>::scaled(Problem<T> rows) const {
  rows.scaling = scaling();
  return rows;
}

template <class T>
bool WindowFit<T>::run(Window window, bool slides, int64_t i, RollingResults<T>& results,
                       Budget& budget) {
  const bool fit_intercept = task_.problem.fit_intercept;
  if (stage_ == Stage::moments) {
    if (!(slides ? moments_.slide(window, budget) : moments_.sum(window, budget))) return false;
    const Moments& m = moments_.moments();
    if (m.square(m.d) == 0) {
      record_empty(i, results);
      return true;
    }
    out_of_range_ = !m.in_range(sizeof(T) == 4);
    if (out_of_range_) return true;
    if (scaling()) find_scaling<T>(m, fit_intercept, scaling_.data());
    quadratic_.assign(m, fit_intercept, scaling());
    stage_ = Stage::solution;
  }
  if (task_.options.exact) {
    if (stage_ == Stage::solution && !solve(budget)) return false;
    if (out_of_range_) return true;
  } else if (stage_ == Stage::solution) {
    spectrum_.restart(scaled(moments_.rows()), &quadratic_);
    stage_ = Stage::curvature;
  }
  if (stage_ == Stage::curvature) {
    if (!spectrum_.advance(budget)) return false;
    begin_descent();
    if (out_of_range_) return true;
  }
  outcome_ = descent_.advance(budget);
  if (outcome_ == Outcome::running) return false;
  record(i, results);
  stage_ = Stage::moments;
  return true;
}

template <class T>
bool WindowFit<T>::solve(Budget& budget) {
  if (!exact_) {
    const Pivoted f = factorise(moments_.rows(), moments_.moments(), *task_.options.exact);
    budget.spent(64 * f.p * f.p * f.width);
    if (f.smallest_pivot() > std::max(clear_pivot<T>, f.tolerance)) {
      begin_loss(solution_of<T>(f));
      return true;
    }
    exact_.emplace(moments_.weigh(), *task_.options.exact);
  }
  if (!exact_->advance(budget)) return false;
  begin_loss(exact_->solve());
  exact_.reset();
  return true;
}

// A descent of no epochs finds the loss.
template <class T>
void WindowFit<T>::begin_loss(Solution<T> solution) {
  out_of_range_ = std::any_of(solution.params.begin(), solution.params.end(),
                              [](T param) { return !std::isfinite(param); });
  if (out_of_range_) return;
  rank_ = solution.rank;
  lr_ = nan;
  momentum_ = task_.options.descent.sgd.momentum;
  DescentState<T> state;
  state.params = std::move(solution.params);
  descent_.restart(moments_.rows(), DescentOptions{}, state, 0, &quadratic_, false);
  descent_.set_constant_lr(1);
  stage_ = Stage::descent;
}

template <class T>
void WindowFit<T>::begin_descent() {
  const RollingOptions& options = task_.options;
  DescentOptions descent = options.descent;
  const double total = spectrum_.largest() + spectrum_.residual() + descent.sgd.weight_decay;
  lr_ = options.lr;
  if (lr_ == 0) lr_ = total == 0 ? 1.0 : options.share / total;
  const bool usable = options.lr != 0 || total == 0 || 1 / total < std::numeric_limits<T>::max();
  out_of_range_ = !(std::isfinite(total) && usable);
  if (out_of_range_) return;
  DescentState<T> state;
  state.params = task_.start;
  const Problem<T> problem = scaled(moments_.rows());
  if (problem.scaling)
    to_scaled(problem.scaling, problem.d, problem.t, problem.fit_intercept, state.params.data());
  if (options.auto_momentum) {
    const auto rates =
        auto_rates(quadratic_, problem, descent, state.params.data(), options.epochs, {nan, nan});
    lr_ = rates.lr;
    descent.sgd.momentum = rates.momentum;
  }
  momentum_ = descent.sgd.momentum;
  descent_.restart(problem, descent, state, options.epochs, &quadratic_, false);
  descent_.set_constant_lr(lr_);
  stage_ = Stage::descent;
}

template <class T>
void WindowFit<T>::record(int64_t i, RollingResults<T>& results) {
  const DescentState<T>& end = descent_.state();
  const Problem<T>& problem = task_.problem;
  T* const params = results.params.data() + i * problem.size();
  std::copy(end.params.begin(), end.params.end(), params);
  if (scaling()) from_scaled(scaling(), problem.d, problem.t, problem.fit_intercept, params);
  results.loss[i] = descent_.loss_below_noise() ? loss_of_rows() : descent_.loss();
  results.first_loss[i] = end.first_loss;
  results.lr[i] = lr_;
  results.momentum[i] = momentum_;
  results.r2_lost[i] = descent_.r2_lost();
  results.curvature[i] = task_.options.exact ? nan : spectrum_.largest();
  results.epochs[i] = end.epoch;
  results.rank[i] = rank_;
  results.outcome[i] = outcome_;
}

template <class T>
void WindowFit<T>::record_empty(int64_t i, RollingResults<T>& results) {
  std::copy(task_.start.begin(), task_.start.end(),
            results.params.begin() + i * task_.problem.size());
  results.loss[i] = results.first_loss[i] = static_cast<T>(nan);
  results.lr[i] = results.momentum[i] = results.r2_lost[i] = results.curvature[i] = nan;
}

template <class T>
T WindowFit<T>::loss_of_rows() const {
  DescentState<T> here;
  here.params = descent_.state().params;
  Descent<T> still(scaled(moments_.weigh()), DescentOptions{}, std::move(here), 0);
  still.set_constant_lr(lr_);
  while (still.advance(1.0) == Outcome::running) continue;
  return still.loss();
}

template struct RollingResults<float>;
template struct RollingResults<double>;
template class WindowFit<float>;
template class WindowFit<double>;

}  // namespace gdcore
