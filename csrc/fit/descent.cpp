#include "fit/descent.hpp"

#include <algorithm>

#include "fp_env.hpp"

namespace gdcore {
namespace {

// Plain loops here and below: small fits would spend more time in calls of memcpy than in steps.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return false;
  for (size_t j = 0; j < a.size(); ++j)
    if (!(a[j] == b[j] && std::signbit(a[j]) == std::signbit(b[j]))) return false;
  return true;
}

template <class T>
void copy(const std::vector<T>& from, std::vector<T>& to) {
  if (to.size() != from.size()) to.resize(from.size());
  for (size_t j = 0; j < from.size(); ++j) to[j] = from[j];
}

void accumulate(const LinearSums& from, LinearSums& to) {
  to.squares += from.squares;
  to.sample_weight += from.sample_weight;
  for (size_t j = 0; j < from.weights.size(); ++j) to.weights[j] += from.weights[j];
  for (size_t u = 0; u < from.intercept.size(); ++u) to.intercept[u] += from.intercept[u];
}

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
  if (!on_quadratic_ || (alone_ && !alone_->suit(problem.size(), options))) alone_.reset();
  in_lane_ = suits_lane();
  loaded_ = false;
  ending_ = Outcome::running;
  piece_.restart();
  piece_step_ = fed_ = 0;
  broken_off_ = false;
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
  if (!on_quadratic_) return pass_.run(problem_.args(state_.params.data()), budget);
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
    if (in_lane_) run_ahead(budget);
  }
}

// A lane spares what an epoch costs whatever its size, and takes the time of eight for the rest.
template <class T>
bool Descent<T>::suits_lane() const {
  constexpr int64_t most_rows = 16, most_params = sizeof(T) == 4 ? 6 : 4;
  if (!Lanes<T>::serve(problem_, options_)) return false;
  if (on_quadratic_) return problem_.size() > 0 && problem_.size() <= most_params;
  return problem_.n <= most_rows && Lanes<T>::serve_rows(problem_, problem_.n);
}

// Epochs that end nothing, after an epoch of the ordinary kind.
template <class T>
void Descent<T>::run_ahead(Budget& budget) {
  const double total_weight =
      problem_.count(problem_.n, pass_.sums) / static_cast<double>(problem_.t);
  if (!constant_lr_ || total_weight == 0 || state_.epoch == target_) return;
  if (!alone_) {
    alone_ = on_quadratic_ ? std::make_unique<Lanes<T>>(problem_.size(), options_)
                           : std::make_unique<Lanes<T>>(problem_, problem_.n, options_);
  }
  if (!loaded_) {
    on_quadratic_ ? alone_->load(0, quadratic_.packed()) : alone_->load(0, problem_, {});
    loaded_ = true;
  }
  alone_->start(0, problem_.objective(total_weight, options_.sgd), options_, lrs_[0], norm_bound_,
                state_);
  const int64_t first = state_.epoch, patient = first_epoch_ + least_patience;
  const int64_t end = patience_known_ || first >= patient ? target_ : std::min(target_, patient);
  int64_t epoch = first;
  for (unsigned ending = 0; epoch < end && !ending;) {
    const int64_t done = alone_->run(end - epoch, ending);
    record(epoch, done);
    epoch += done;
    if (budget.spent(alone_->work(done))) break;
  }
  alone_->unload(0, state_);
  in_lane_ = epoch > first;  // else it would stop there again and again
}

// What the lane measured in its last run.
template <class T>
void Descent<T>::record(int64_t first, int64_t epochs) {
  const int64_t every = options_.history;
  for (int64_t e = 0; e < epochs && every > 0; ++e) {
    if ((first + e + 1) % every != 0) continue;
    history_.epoch.push_back(first + e + 1);
    history_.loss.push_back(alone_->loss(0, e));
    if (options_.record_params) alone_->append_params(0, e, history_.params);
  }
}

// What follows from the sums over `rows` rows: a step, or the end.
template <class T>
Outcome Descent<T>::take_step(int64_t rows) {
  const T loss = problem_.close(rows, pass_.sums, gradient_.data());
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
  if (stuck()) return Outcome::stalled;
  update();
  end_epoch(loss);
  return Outcome::running;
}

template <class T>
Outcome Descent<T>::advance_batches(Budget& budget) {
  while (true) {
    const Outcome due = batches_due();
    if (due != Outcome::running) return evaluate(budget, due);
    if (!lr_known()) return Outcome::running;
    if (!run_batches(problem_, options_.seed, state_.step, budget)) return Outcome::running;
    if (broken_off_) return diverge(false);
    const Outcome outcome = end_batches(problem_.n);
    if (outcome != Outcome::running) return evaluate(budget, outcome);
  }
}

// How the descent ends before the next batch, if it does.
template <class T>
Outcome Descent<T>::batches_due() {
  if (state_.step == 0) {
    const Outcome arrived = arrival(0);
    if (arrived != Outcome::running) return arrived;
    if (stuck()) return Outcome::stalled;
  }
  return state_.epoch >= target_ ? out_of_epochs() : Outcome::running;
}

// The batches of rows that are one after another, from `step` on; true once done or broken off.
template <class T>
bool Descent<T>::run_batches(const Problem<T>& problem, uint64_t seed, int64_t& step,
                             Budget& budget) {
  const int64_t n = problem.n, batch = options_.batch_size;
  Permutation order;
  if (options_.shuffle) order = Permutation(n, seed, static_cast<uint64_t>(state_.epoch));
  while (step * batch < n) {
    LinearArgs<T> args = problem.args(state_.params.data());
    args.first = step * batch;
    args.n = std::min(batch, n - args.first);
    if (options_.shuffle) args.order = &order;
    if (!pass_.run(args, budget)) return false;
    const T loss = problem.close(args.n, pass_.sums, gradient_.data());
    broken_off_ = !std::isfinite(loss) || !std::isfinite(gradient_norm());
    if (broken_off_) return true;
    accumulate(pass_.sums, state_.epoch_sums);
    update();
    state_.epoch_moved |= state_.moved;
    ++step;
    if (budget.spent(0)) return false;
  }
  return true;
}

template <class T>
Outcome Descent<T>::end_batches(int64_t rows) {
  const T loss = problem_.close(rows, state_.epoch_sums, nullptr);
  if (std::isnan(state_.first_loss)) state_.first_loss = loss;
  const bool equal = options_.stop_on_equal_loss && loss == state_.last_loss;
  state_.moved = state_.epoch_moved || options_.shuffle;
  end_epoch(loss);
  return equal ? Outcome::converged : Outcome::running;
}

template <class T>
bool Descent<T>::begin_pass() {
  FpEnv env;
  pass_.restart();
  pass_.sums.reset(problem_.d, problem_.t);
  piece_.restart();
  piece_step_ = fed_ = 0;
  broken_off_ = false;
  if (options_.batch_size > 0 && ending_ == Outcome::running) ending_ = batches_due();
  return ending_ != Outcome::running;
}

template <class T>
bool Descent<T>::feed(const Problem<T>& piece, uint64_t seed, double seconds) {
  FpEnv env;
  Budget budget(seconds);
  bool through = broken_off_;
  if (!through && options_.batch_size > 0 && ending_ == Outcome::running) {
    through = run_batches(piece, seed, piece_step_, budget);
  } else if (!through) {
    const LinearArgs<T> args = piece.args(state_.params.data());
    through = piece_.run(args.n, L<T>, row_work(args), budget, [&](int64_t chunk0, int64_t chunk1) {
      device<T>().linear(args, chunk0, chunk1, pass_.sums);
    });
  }
  if (!through) return false;
  piece_step_ = 0;
  fed_ += piece.n;
  return true;
}

template <class T>
Outcome Descent<T>::end_pass() {
  FpEnv env;
  pass_.sums.close();
  if (options_.batch_size == 0 && ending_ == Outcome::running) {
    limit_epochs();
    return take_step(fed_);
  }
  if (ending_ != Outcome::running) return evaluated(fed_);
  if (broken_off_) return diverge(false);
  ending_ = end_batches(fed_);
  return Outcome::running;
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
  if (!state_.previous.empty()) take_back();
  pass_.restart();
  if (evaluated) return Outcome::diverged;
  ending_ = Outcome::diverged;
  return Outcome::running;
}

// Undoes the last update, and the record of it.
// Nothing can go on from a diverged fit but its parameters, so the rest of the state is that of a
// start.
template <class T>
void Descent<T>::take_back() {
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
  const bool momentum = options_.sgd.momentum != 0;
  const bool first = momentum && state_.velocity.empty();
  copy(state_.params, state_.previous);
  copy(state_.velocity, previous_velocity_);
  if (first) state_.velocity.assign(state_.params.size(), T(0));
  state_.lr = constant_lr_ ? lrs_[0] : lrs_[static_cast<size_t>(state_.epoch - first_lr_)];
  const int64_t size = problem_.size(), decayed = decayed_size();
  const auto step = [&](int64_t begin, int64_t end, const SgdOptions& sgd) {
    if (begin == end) return;
    device<T>().sgd(end - begin, state_.params.data() + begin, gradient_.data() + begin,
                    momentum ? state_.velocity.data() + begin : nullptr, first, state_.lr, sgd);
  };
  step(0, decayed, options_.sgd);
  SgdOptions plain = options_.sgd;
  plain.weight_decay = 0;
  step(decayed, size, plain);
  state_.moved =
      !same_bits(state_.previous, state_.params) || !same_bits(previous_velocity_, state_.velocity);
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

// Of the objective's gradient, weight decay included.
template <class T>
double Descent<T>::gradient_norm() const {
  const double decay = options_.sgd.weight_decay, sign = options_.sgd.maximize ? -1 : 1;
  const auto decayed = static_cast<size_t>(decayed_size());
  double squares = 0, largest = 0;
  const auto entry = [&](size_t j) {
    const double penalty = j < decayed ? decay * static_cast<double>(state_.params[j]) : 0.0;
    return sign * static_cast<double>(gradient_[j]) + penalty;
  };
  for (size_t j = 0; j < gradient_.size(); ++j) squares += entry(j) * entry(j);
  if (std::isfinite(squares) && squares > 1e-200) return std::sqrt(squares);
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

// No further epoch would change a bit, the steps being the same ones.
template <class T>
bool Descent<T>::stuck() const {
  return !state_.moved && constant_lr_ && options_.tol >= 0;
}

// converged or stalled once the gap is small enough; mini-batches, whose gradients are of a part of
// the rows, pass 0.
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

// Looked at once, after epochs in which most descents arrive.
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
