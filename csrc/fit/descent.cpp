#include "fit/descent.hpp"

#include <algorithm>

#include "fp_env.hpp"

namespace gdcore {
namespace {

constexpr int64_t most_device_work = 16 * Budget::unit;  // between two looks at the clock
constexpr int64_t most_history = 4096;                   // epochs, entries: made room for at a time

}  // namespace

template <class T>
int64_t patience_of(const Quadratic<T>& quadratic, const Problem<T>& problem,
                    const DescentOptions& options, double lr, const T* start) {
  constexpr int64_t endless = std::numeric_limits<int64_t>::max();
  if (quadratic.parameters() > Outlook<T>::most_parameters) return endless;
  const Objective objective = problem.objective(quadratic.sample_weight(), options.sgd);
  Goal<T> goal;
  goal.assign(quadratic, objective, options.tol, problem.returned());
  if (!goal.known()) return endless;
  Outlook<T> outlook;
  outlook.assign(quadratic, objective, goal, start);
  const int64_t epochs = outlook.most_epochs(options.sgd, lr);
  if (epochs == Outlook<T>::never) return endless;
  return std::max(least_patience, 2 * epochs + 64);
}

template <class T>
typename Outlook<T>::Rates auto_rates(const Quadratic<T>& quadratic, const Problem<T>& problem,
                                      const DescentOptions& options, const T* start, int64_t epochs,
                                      const typename Outlook<T>::Rates& kept) {
  const Objective objective = problem.objective(quadratic.sample_weight(), options.sgd);
  Goal<T> goal;
  goal.assign(quadratic, objective, std::max(options.tol, 0.0), problem.returned());
  Outlook<T> outlook;
  outlook.assign(quadratic, objective, goal, start);
  return outlook.heavy_ball(epochs, kept);
}

template <class T>
void Descent<T>::restart(const Problem<T>& problem, const DescentOptions& options,
                         const DescentState<T>& state, int64_t target,
                         const Quadratic<T>* quadratic, bool from_rows) {
  problem_ = problem;
  options_ = options;
  state_ = state;
  history_.epoch.clear();
  history_.loss.clear();
  history_.params.clear();
  target_ = target;
  judged_ = quadratic != nullptr;
  on_quadratic_ = judged_ && !from_rows;
  if (judged_) quadratic_ = *quadratic;
  goal_known_ = false;
  patience_known_ = impatient_ = false;
  set_start(state.epoch, state.params);
  norm_bound_ = -1.0;
  if (judged_ && options.tol >= 0 && !options.sgd.maximize)
    norm_bound_ = Goal<T>::norm_bound(quadratic_, objective(), options.tol);
  pass_.restart();
  pass_.sums.reset(problem.d, problem.t);
  gradient_.resize(static_cast<size_t>(problem.size()));
  on_device_ = epochs_are_short();
  ending_ = Outcome::running;
  piece_.restart();
  piece_step_ = fed_ = 0;
  batch_diverged_ = false;
  loss_ = std::numeric_limits<T>::quiet_NaN();
  if (options.batch_size == 0) state_.step = 0;
  if (state_.step == 0) state_.epoch_sums.reset(problem.d, problem.t);
}

template <class T>
void Descent<T>::set_start(int64_t epoch, std::vector<T> params) {
  first_epoch_ = epoch;
  start_ = std::move(params);
}

template <class T>
void Descent<T>::set_constant_lr(double lr) {
  constant_lr_ = true;
  lrs_ = {lr};
}

template <class T>
void Descent<T>::set_schedule(int64_t first, std::vector<double> lrs) {
  constant_lr_ = false;
  first_lr_ = first;
  lrs_ = std::move(lrs);
}

template <class T>
bool Descent<T>::lr_known() const {
  if (constant_lr_) return !lrs_.empty();
  return state_.epoch >= first_lr_ && state_.epoch - first_lr_ < static_cast<int64_t>(lrs_.size());
}

template <class T>
Outcome Descent<T>::advance(double seconds) {
  FpEnv env;
  Budget budget(seconds);
  return advance(budget);
}

template <class T>
Outcome Descent<T>::advance(Budget& budget) {
  if (ending_ != Outcome::running) return evaluate(budget, ending_);
  return options_.batch_size > 0 ? advance_batches(budget) : advance_full(budget);
}

// Sums over all rows at the parameters; false if that needs another call.
template <class T>
bool Descent<T>::sum_rows(Budget& budget) {
  if (!on_quadratic_)
    return pass_.run(*problem_.device, problem_.args(state_.params.data()), budget);
  quadratic_.sums(state_.params.data(), pass_.sums);
  budget.spent(quadratic_.work() + 128);
  return true;
}

template <class T>
Outcome Descent<T>::advance_full(Budget& budget) {
  while (true) {
    limit_epochs();
    const bool last = state_.epoch >= target_;
    if (!last && !lr_known()) return Outcome::running;
    if (!sum_rows(budget)) return Outcome::running;
    const Outcome outcome = take_step(problem_.n);
    if (outcome != Outcome::running || budget.spent(0)) return outcome;
    if (on_device_) run_on_device(budget);
  }
}

// Where the device may run several of them between two looks at the clock. Longer epochs are passes
// that can pause.
template <class T>
bool Descent<T>::epochs_are_short() const {
  if (options_.batch_size > 0 || problem_.size() == 0) return false;
  return (on_quadratic_ ? quadratic_.packed() != nullptr : problem_.n > 0) &&
         epoch_work() <= most_device_work / 4;
}

template <class T>
int64_t Descent<T>::epoch_work() const {
  if (on_quadratic_) return quadratic_.work() + 128;
  const Device<T>& host = host_of(*problem_.device);
  return problem_.n * row_work(host, problem_.args(nullptr)) + 128;
}

// Has the device run epochs at the constant rate, after an ordinary epoch, until one may end or the
// time is over.
template <class T>
void Descent<T>::run_on_device(Budget& budget) {
  const Scale scale = problem_.scale(problem_.n, pass_.sums);
  if (!constant_lr_ || scale.gradient == 0 || state_.epoch == target_) return;
  const int64_t first = state_.epoch, patient = first_epoch_ + least_patience;
  const int64_t end = patience_known_ || first >= patient ? target_ : std::min(target_, patient);
  uint8_t moving = !state_.velocity.empty(), moved = state_.moved, may_end = 0;
  DescentArgs<T> args{};
  args.rows.args = problem_.args(state_.params.data());
  args.quadratic = on_quadratic_ ? quadratic_.packed() : nullptr;
  args.size = problem_.size();
  args.scale = scale;
  args.sgd = options_.sgd;
  args.decayed = decayed_size();
  args.lr = state_.lr = lrs_[0];
  args.norm_bound = end_rules().norm_bound;
  args.stop_on_equal_loss = options_.stop_on_equal_loss;
  args.params = state_.params.data();
  args.velocity = state_.velocity.data();
  args.previous = state_.previous.data();
  args.first_loss = &state_.first_loss;
  args.last_loss = &state_.last_loss;
  args.moving = &moving;
  args.moved = &moved;
  args.epoch = &state_.epoch;
  args.every = options_.history;
  args.may_end = &may_end;
  const int64_t most = std::max<int64_t>(1, most_device_work / epoch_work());
  while (state_.epoch < end && !may_end) {
    const int64_t before = state_.epoch;
    args.epochs = reserve_history(std::min(end - before, most), args);
    problem_.device->descend_each(1, &args);
    keep_history(before);
    if (budget.spent((state_.epoch - before) * epoch_work() + 128)) break;
  }
  state_.moved = moved != 0;
  on_device_ = state_.epoch > first;  // otherwise the same epoch would be tried again and again
}

// Makes room for what these epochs record, or the first of them; their number.
template <class T>
int64_t Descent<T>::reserve_history(int64_t epochs, DescentArgs<T>& args) {
  if (options_.history == 0) return epochs;
  epochs = std::min(epochs, most_history);
  const size_t size = state_.params.size();
  if (options_.record_params)
    epochs = std::clamp<int64_t>(16 * most_history / static_cast<int64_t>(size), 1, epochs);
  const int64_t entries =
      (state_.epoch + epochs) / options_.history - state_.epoch / options_.history;
  const size_t kept = history_.loss.size(), params = history_.params.size();
  history_.loss.resize(kept + static_cast<size_t>(entries));
  args.losses = history_.loss.data() + kept;
  if (!options_.record_params) return epochs;
  history_.params.resize(params + static_cast<size_t>(entries) * size);
  args.recorded = history_.params.data() + params;
  return epochs;
}

// Gives back the room of epochs that were not done, of those since `before`.
template <class T>
void Descent<T>::keep_history(int64_t before) {
  const int64_t every = options_.history;
  if (every == 0) return;
  for (int64_t e = (before / every + 1) * every; e <= state_.epoch; e += every)
    history_.epoch.push_back(e);
  history_.loss.resize(history_.epoch.size());
  if (options_.record_params) history_.params.resize(history_.epoch.size() * state_.params.size());
}

// Closes an epoch with the sums over `rows` rows: it steps, or ends.
template <class T>
Outcome Descent<T>::take_step(int64_t rows) {
  const T loss = problem_.close(rows, pass_.sums, gradient_.data());
  if (state_.epoch >= target_ ||
      may_end(end_rules(), loss, state_.last_loss, squared_norm(), state_.moved)) {
    const Outcome outcome = ended(loss);
    if (outcome != Outcome::running) return outcome;
  }
  loss_ = loss;
  if (std::isnan(state_.first_loss)) state_.first_loss = loss;
  update();
  end_epoch(loss);
  return Outcome::running;
}

// How the descent ends at the parameters, if it does: what may_end only suspects.
template <class T>
Outcome Descent<T>::ended(T loss) {
  const double norm = gradient_norm();
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    loss_ = state_.previous.empty() ? loss : state_.last_loss;
    return diverge(true);
  }
  loss_ = loss;
  if (std::isnan(state_.first_loss)) state_.first_loss = loss;
  const Outcome arrived = arrival(norm);
  if (arrived != Outcome::running) return arrived;
  if (options_.stop_on_equal_loss && loss == state_.last_loss) return Outcome::converged;
  if (state_.epoch >= target_) return out_of_epochs();
  return stuck() ? Outcome::stalled : Outcome::running;
}

// The loss at the final parameters over all rows.
template <class T>
Outcome Descent<T>::evaluate(Budget& budget, Outcome outcome) {
  ending_ = outcome;
  return sum_rows(budget) ? evaluated(problem_.n) : Outcome::running;
}

template <class T>
Outcome Descent<T>::evaluated(int64_t rows) {
  const Outcome outcome = ending_;
  loss_ = problem_.close(rows, pass_.sums, nullptr);
  ending_ = Outcome::running;
  if (!std::isfinite(loss_) && outcome != Outcome::diverged && !state_.previous.empty())
    return diverge(false);
  return std::isfinite(loss_) ? outcome : Outcome::diverged;
}

// Falls back to the last parameters whose loss was finite; their loss may still have to be
// evaluated.
template <class T>
Outcome Descent<T>::diverge(bool evaluated) {
  if (!state_.previous.empty()) undo_step();
  pass_.restart();
  if (evaluated) return Outcome::diverged;
  ending_ = Outcome::diverged;
  return Outcome::running;
}

// Undoes the last step, and its record. Only the parameters of a diverged fit are of use, so the
// rest of the state is that of a start.
template <class T>
void Descent<T>::undo_step() {
  state_.params = std::move(state_.previous);
  state_.previous.clear();
  state_.velocity.clear();
  state_.last_loss = std::numeric_limits<T>::quiet_NaN();
  if (options_.batch_size > 0) {
    state_.step = 0;
    state_.epoch_sums.reset(problem_.d, problem_.t);
    return;
  }
  --state_.epoch;
  if (history_.epoch.empty() || history_.epoch.back() <= state_.epoch) return;
  history_.epoch.pop_back();
  history_.loss.pop_back();
  if (options_.record_params) history_.params.resize(history_.params.size() - state_.params.size());
}

template <class T>
void Descent<T>::update() {
  const bool momentum = options_.sgd.momentum != 0, first = momentum && state_.velocity.empty();
  const size_t size = state_.params.size();
  if (state_.previous.size() != size) state_.previous.resize(size);
  if (momentum && previous_velocity_.size() != size) previous_velocity_.resize(size);
  if (first) state_.velocity.assign(size, T(0));
  state_.lr = constant_lr_ ? lrs_[0] : lrs_[static_cast<size_t>(state_.epoch - first_lr_)];
  state_.moved = step_all(
      *problem_.device,
      FullStep<T>{problem_.size(), decayed_size(), state_.lr, options_.sgd, gradient_.data(),
                  state_.params.data(), momentum ? state_.velocity.data() : nullptr,
                  state_.previous.data(), previous_velocity_.data(), first});
}

template <class T>
void Descent<T>::end_epoch(T loss) {
  ++state_.epoch;
  state_.step = 0;
  state_.last_loss = loss;
  if (options_.batch_size > 0) {
    state_.epoch_sums.reset(problem_.d, problem_.t);
    state_.epoch_moved = false;
  }
  if (options_.history == 0 || state_.epoch % options_.history != 0) return;
  history_.epoch.push_back(state_.epoch);
  history_.loss.push_back(loss);
  if (options_.record_params)
    history_.params.insert(history_.params.end(), state_.params.begin(), state_.params.end());
}

// The norm of the objective's gradient, weight decay included.
template <class T>
double Descent<T>::gradient_norm() const {
  double squares = squared_norm();
  if (std::isfinite(squares) && squares > 1e-200) return std::sqrt(squares);
  const double decay = options_.sgd.weight_decay, sign = options_.sgd.maximize ? -1 : 1;
  const auto decayed = static_cast<size_t>(decayed_size());
  const auto entry = [&](size_t j) {
    const double penalty = j < decayed ? decay * static_cast<double>(state_.params[j]) : 0.0;
    return sign * static_cast<double>(gradient_[j]) + penalty;
  };
  double largest = 0;
  for (size_t j = 0; j < gradient_.size(); ++j) {  // out of range: scale first
    if (!std::isfinite(entry(j))) return entry(j);
    largest = std::max(largest, std::fabs(entry(j)));
  }
  if (largest == 0) return 0;
  squares = 0;
  for (size_t j = 0; j < gradient_.size(); ++j)
    squares += (entry(j) / largest) * (entry(j) / largest);
  return largest * std::sqrt(squares);
}

// No further epoch would change a bit: the steps would be the same.
template <class T>
bool Descent<T>::stuck() const {
  return !state_.moved && constant_lr_ && options_.tol >= 0;
}

// converged or stalled once the gap is small enough; mini-batches, whose gradients are those of a
// part of the rows, pass 0.
template <class T>
Outcome Descent<T>::arrival(double norm) {
  if (!(norm <= norm_bound_)) return Outcome::running;
  if (!goal().known()) return Outcome::running;
  const T* const params = state_.params.data();
  if (!on_quadratic_) {
    judge_sums_.reset(problem_.d, problem_.t);
    quadratic_.sums(params, judge_sums_);
  }
  if (!goal_.reached(on_quadratic_ ? pass_.sums : judge_sums_, params)) return Outcome::running;
  return goal_.confirmed(params) ? Outcome::converged : Outcome::stalled;
}

template <class T>
Outcome Descent<T>::out_of_epochs() const {
  const bool going = (state_.moved || options_.tol < 0) && !impatient_;
  return going ? Outcome::max_epochs : Outcome::stalled;
}

// Once, after epochs in which most descents arrive: brings the target forward to where patience
// ends.
template <class T>
void Descent<T>::limit_epochs() {
  if (patience_known_ || state_.epoch - first_epoch_ < least_patience) return;
  patience_known_ = true;
  if (norm_bound_ < 0 || !constant_lr_ || lrs_.empty()) return;
  const int64_t most = patience_of(quadratic_, problem_, options_, lrs_[0], start_.data());
  if (most >= target_ - first_epoch_) return;
  target_ = first_epoch_ + most;
  impatient_ = true;
}

template <class T>
const Goal<T>& Descent<T>::goal() {
  if (!goal_known_)
    goal_.assign(quadratic_, objective(), std::max(options_.tol, 0.0), problem_.returned());
  goal_known_ = true;
  return goal_;
}

template <class T>
double Descent<T>::r2_lost() {
  if (norm_bound_ < 0 || !goal().known()) return std::numeric_limits<double>::quiet_NaN();
  return goal_.r2_lost(state_.params.data());
}

#define GDCORE_INSTANTIATE(T)                                                                    \
  template int64_t patience_of<T>(const Quadratic<T>&, const Problem<T>&, const DescentOptions&, \
                                  double, const T*);                                             \
  template typename Outlook<T>::Rates auto_rates<T>(const Quadratic<T>&, const Problem<T>&,      \
                                                    const DescentOptions&, const T*, int64_t,    \
                                                    const typename Outlook<T>::Rates&);          \
  template class Descent<T>;
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore
