#include "fit/many.hpp"

#include <algorithm>

#include "fp_env.hpp"

namespace gdcore {

// A problem while it is worked on.
template <class T>
struct Many<T>::One {
  Problem<T> problem;
  std::vector<T> gathered;  // its rows, where they do not lie together
  std::optional<MomentsPass<T>> pass;
  std::optional<Quadratic<T>> quadratic;
  std::optional<Spectrum<T>> spectrum;
  std::optional<Descent<T>> descent;
  std::optional<Exact<T>> exact;
};

namespace {

template <class T>
void move(Matrix<const T>& m, int64_t elements) {
  if (m.data) m.data += elements;
}
template <class T>
void move(Vector<const T>& v, int64_t elements) {
  if (v.data) v.data += elements;
}

// Rows of a matrix or vector, in an order, behind one another in memory from `to` on.
template <class T>
Matrix<const T> gather(const Matrix<const T>& m, int64_t columns, const int64_t* order, int64_t n,
                       T*& to) {
  if (!m.data) return m;
  const T* const start = to;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < columns; ++j) *to++ = m.data[order[i] * m.rs + j * m.cs];
  return {start, columns, 1};
}

template <class T>
Problem<T> problem_at(const ManyRows<T>& rows, int64_t i, std::vector<T>& gathered) {
  Problem<T> p = rows.all;
  if (rows.starts.empty()) {
    move(p.X, i * rows.X_step);
    move(p.y, i * rows.y_step);
    move(p.offset, i * rows.offset_step);
    move(p.sample_weight, i * rows.weight_step);
    return p;
  }
  const int64_t begin = rows.starts[i];
  p.n = rows.starts[i + 1] - begin;
  if (!rows.order) {
    move(p.X, begin * p.X.rs);
    move(p.y, begin * p.y.rs);
    move(p.offset, begin * p.offset.rs);
    move(p.sample_weight, begin * p.sample_weight.stride);
    return p;
  }
  const int64_t* const order = rows.order + begin;
  gathered.resize(static_cast<size_t>(p.n * (p.d + 2 * p.t + 1)));
  T* to = gathered.data();
  p.X = gather(p.X, p.d, order, p.n, to);
  p.y = gather(p.y, p.t, order, p.n, to);
  p.offset = gather(p.offset, p.t, order, p.n, to);
  const Matrix<const T> weight{p.sample_weight.data, p.sample_weight.stride, 0};
  p.sample_weight = {gather(weight, 1, order, p.n, to).data, 1};
  return p;
}

template <class T>
bool counts(const Problem<T>& p) {
  if (!p.sample_weight.data) return p.n > 0;
  for (int64_t i = 0; i < p.n; ++i)
    if (p.sample_weight.data[i * p.sample_weight.stride] != 0) return true;
  return false;
}

}  // namespace

template <class T>
Many<T>::Many(ManyRows<T> rows, bool gram)
    : rows_(std::move(rows)), gram_(gram), ones_(static_cast<size_t>(rows_.count)) {
  const auto count = static_cast<size_t>(rows_.count);
  curvature.assign(count, 0.0);
  error.assign(count, 0.0);
  steepest.assign(count, 0.0);
  rank.assign(count, 0);
  empty.assign(count, 0);
  finite.assign(count, 1);
  streamed.assign(count, gram ? 0 : 1);
}

template <class T>
Many<T>::~Many() = default;

template <class T>
bool Many<T>::take(int64_t& i) {
  const std::lock_guard lock(mutex_);
  if (!paused_.empty()) {
    i = paused_.back();
    paused_.pop_back();
    return true;
  }
  if (next_ == rows_.count) return false;
  i = next_++;
  return true;
}

// work(i, seconds left) -> done, for every problem, on threads; true when none is left.
template <class T>
template <class Work>
bool Many<T>::in_turns(double seconds, Work&& work) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  auto turn = [&] {
    const FpEnv env;
    int64_t i;
    while (take(i)) {
      const double left = seconds - std::chrono::duration<double>(Clock::now() - start).count();
      const bool finished = left > 0 && work(i, left);
      const std::lock_guard lock(mutex_);
      done_ += finished;
      if (finished) continue;
      paused_.push_back(i);
      return;
    }
  };
  const Problem<T>& p = rows_.all;
  const int64_t rows = rows_.starts.empty() ? p.n * rows_.count : p.n;
  device<T>().each_thread(
      rows_.count, rows * (p.d + 1) * p.t * 8,
      [](void* context) { (*static_cast<decltype(turn)*>(context))(); }, &turn);
  if (done_ < rows_.count) return false;
  next_ = done_ = 0;
  return true;
}

template <class T>
typename Many<T>::One& Many<T>::open(int64_t i) {
  std::unique_ptr<One>& one = ones_[static_cast<size_t>(i)];
  if (!one) {
    one = std::make_unique<One>();
    one->problem = problem_at(rows_, i, one->gathered);
  }
  return *one;
}

template <class T>
bool Many<T>::survey(bool curvature_too, bool steepest_too, double seconds) {
  return in_turns(seconds, [&](int64_t i, double left) {
    Budget budget(left);
    return survey_one(i, curvature_too, steepest_too, budget);
  });
}

template <class T>
bool Many<T>::survey_one(int64_t i, bool curvature_too, bool steepest_too, Budget& budget) {
  One& one = open(i);
  if (!one.pass && !one.spectrum) empty[i] = !counts(one.problem);
  if (empty[i]) return true;
  if (gram_ && !one.quadratic && !streamed[i]) {
    if (!one.pass) one.pass.emplace(one.problem);
    if (!one.pass->run(budget)) return false;
    finite[i] = one.pass->moments.finite();
    streamed[i] = !one.pass->moments.in_range();
    if (!streamed[i]) one.quadratic.emplace(one.pass->moments, one.problem.fit_intercept);
    one.pass.reset();
  }
  if (!finite[i] || !curvature_too) return true;
  if (!one.spectrum) one.spectrum.emplace(one.problem, one.quadratic);
  if (!one.spectrum->advance(budget)) return false;
  curvature[i] = one.spectrum->largest();
  error[i] = one.spectrum->residual();
  finite[i] = std::isfinite(curvature[i]);
  if (steepest_too) steepest[i] = largest_row(one.problem);
  one.spectrum.reset();
  if (one.quadratic) std::vector<T>().swap(one.gathered);
  return true;
}

template <class T>
void Many<T>::start(ManyOptions options, ManyStates<T> states) {
  options_ = std::move(options);
  states_ = std::move(states);
  const auto count = static_cast<size_t>(rows_.count);
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  states_.loss.assign(count, nan);
  states_.outcome.assign(count, Outcome::running);
  states_.lr.assign(count, std::numeric_limits<double>::quiet_NaN());
  states_.losses.assign(count * static_cast<size_t>(options_.records), nan);
  if (options_.common.sgd.momentum != 0)
    states_.velocity.resize(states_.params.size());
  else
    states_.velocity.clear();
}

template <class T>
bool Many<T>::advance(double seconds) {
  return in_turns(seconds, [&](int64_t i, double left) { return advance_one(i, left); });
}

template <class T>
bool Many<T>::advance_one(int64_t i, double seconds) {
  if (options_.skip[i]) return true;
  One& one = open(i);
  if (!one.descent) {
    DescentOptions options = options_.common;
    options.tol = options_.tol[i];
    options.sgd.weight_decay = options_.weight_decay[i];
    one.descent.emplace(one.problem, options, state_of(i), states_.epoch[i] + options_.epochs,
                        std::move(one.quadratic));
    if (options_.schedule)
      one.descent->set_schedule(states_.epoch[i], options_.lr);
    else
      one.descent->set_constant_lr(options_.lr[i]);
  }
  const Outcome outcome = one.descent->advance(seconds);
  if (outcome == Outcome::running) return false;
  states_.outcome[i] = outcome;
  keep(i, *one.descent);
  if (one.descent->loss_doubtful()) states_.loss[i] = loss_of_rows(i);
  ones_[i].reset();
  return true;
}

template <class T>
bool Many<T>::solve(double seconds) {
  return in_turns(seconds, [&](int64_t i, double left) { return solve_one(i, left); });
}

template <class T>
bool Many<T>::solve_one(int64_t i, double seconds) {
  if (options_.skip[i]) return true;
  One& one = open(i);
  if (!one.exact) one.exact.emplace(one.problem, options_.weight_decay[i]);
  if (!one.exact->advance(seconds)) return false;
  const auto solution = one.exact->solve();
  rank[i] = solution.rank;
  std::copy(solution.params.begin(), solution.params.end(),
            states_.params.begin() + i * rows_.all.size());
  states_.loss[i] = loss_of_rows(i);
  states_.outcome[i] = Outcome::converged;
  ones_[i].reset();
  return true;
}

// Those that are still under way included.
template <class T>
const ManyStates<T>& Many<T>::states() {
  for (int64_t i = 0; i < rows_.count; ++i)
    if (ones_[i] && ones_[i]->descent) keep(i, *ones_[i]->descent);
  return states_;
}

template <class T>
DescentState<T> Many<T>::state_of(int64_t i) const {
  const int64_t p = rows_.all.size();
  const auto part = [&](const std::vector<T>& all) {
    return std::vector<T>(all.begin() + i * p, all.begin() + (i + 1) * p);
  };
  DescentState<T> state;
  state.params = part(states_.params);
  if (!states_.velocity.empty() && states_.moving[i]) state.velocity = part(states_.velocity);
  state.epoch = states_.epoch[i];
  state.first_norm = states_.first_norm[i];
  state.first_loss = states_.first_loss[i];
  state.last_loss = states_.last_loss[i];
  return state;
}

template <class T>
void Many<T>::keep(int64_t i, const Descent<T>& descent) {
  const int64_t p = rows_.all.size();
  const DescentState<T>& state = descent.state();
  std::copy(state.params.begin(), state.params.end(), states_.params.begin() + i * p);
  if (!states_.velocity.empty())
    std::copy(state.velocity.begin(), state.velocity.end(), states_.velocity.begin() + i * p);
  states_.moving[i] = !state.velocity.empty();
  states_.epoch[i] = state.epoch;
  states_.first_norm[i] = state.first_norm;
  states_.first_loss[i] = state.first_loss;
  states_.last_loss[i] = state.last_loss;
  states_.lr[i] = state.lr;
  states_.loss[i] = descent.loss();
  const std::vector<T>& losses = descent.history().loss;
  std::copy(losses.begin(), losses.end(), states_.losses.begin() + i * options_.records);
}

template <class T>
T Many<T>::loss_of_rows(int64_t i) const {
  std::vector<T> gathered;
  Descent<T> none(problem_at(rows_, i, gathered), DescentOptions{}, state_of(i), 0);
  none.set_constant_lr(0);
  while (none.advance(1.0) == Outcome::running) continue;
  return none.loss();
}

template class Many<float>;
template class Many<double>;

}  // namespace gdcore
