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
  int64_t target = 0;              // epoch to end at
  int64_t left = 0, recorded = 0;  // in lanes: epochs to run, losses kept
};

namespace {

class Deadline {
 public:
  explicit Deadline(double seconds) : seconds_(seconds) {}
  double left() const {
    return seconds_ - std::chrono::duration<double>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
  double seconds_;
};

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
Many<T>::Many(ManyRows<T> rows, const std::vector<uint8_t>& gram)
    : rows_(std::move(rows)), ones_(static_cast<size_t>(rows_.count)) {
  const auto count = static_cast<size_t>(rows_.count);
  curvature.assign(count, 0.0);
  error.assign(count, 0.0);
  steepest.assign(count, 0.0);
  rank.assign(count, 0);
  empty.assign(count, 0);
  finite.assign(count, 1);
  for (uint8_t one : gram) streamed.push_back(!one);
}

template <class T>
Many<T>::~Many() = default;

// The problems that one thread is to work on: it asks for some at a time.
template <class T>
class Many<T>::Share {
 public:
  explicit Share(Many& many) : many_(many) {}
  ~Share() {
    const std::lock_guard lock(many_.mutex_);
    for (; next_ < end_; ++next_) many_.paused_.push_back(next_);
    many_.done_ += done_;
  }

  bool take(int64_t& i) {
    if (next_ < end_) {
      i = next_++;
      return true;
    }
    const std::lock_guard lock(many_.mutex_);
    if (!many_.paused_.empty()) {
      i = many_.paused_.back();
      many_.paused_.pop_back();
      return true;
    }
    next_ = many_.next_;
    end_ = many_.next_ = std::min(next_ + at_once, many_.rows_.count);
    if (next_ == end_) return false;
    i = next_++;
    return true;
  }

  void put(int64_t i, bool done) {
    done_ += done;
    if (done) return;
    const std::lock_guard lock(many_.mutex_);
    many_.paused_.push_back(i);
  }

 private:
  static constexpr int64_t at_once = 16;
  Many& many_;
  int64_t next_ = 0, end_ = 0, done_ = 0;
};

// turn(share) on threads, each of which takes problems and puts them back; true when none is left.
template <class T>
template <class Turn>
bool Many<T>::on_threads(Turn&& turn) {
  const Problem<T>& p = rows_.all;
  const int64_t rows = rows_.starts.empty() ? p.n * rows_.count : p.n;
  auto body = [&] {
    const FpEnv env;
    Share share(*this);
    turn(share);
  };
  device<T>().each_thread(
      rows_.count, rows * (p.d + 1) * p.t * 8,
      [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
  if (done_ < rows_.count) return false;
  next_ = done_ = 0;
  return true;
}

// work(i, seconds left) -> done, for every problem.
template <class T>
template <class Work>
bool Many<T>::in_turns(double seconds, Work&& work) {
  const Deadline deadline(seconds);
  return on_threads([&](Share& share) {
    int64_t i;
    for (bool first = true; share.take(i); first = false) {
      const double left = deadline.left();
      const bool finished = (first || left > 0) && work(i, left);
      share.put(i, finished);
      if (!finished) return;
    }
  });
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
  if (!one.quadratic && !streamed[i]) {
    if (!one.pass) one.pass.emplace(one.problem);
    if (!one.pass->run(budget)) return false;
    finite[i] = one.pass->moments.finite();
    streamed[i] = !one.pass->moments.in_range(sizeof(T) == 4);
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
  if (options_.common.sgd.momentum != 0) states_.velocity.resize(states_.params.size());
}

template <class T>
bool Many<T>::advance(double seconds) {
  if (!options_.schedule && Lanes<T>::serve(rows_.all, options_.common))
    return on_threads([&](Share& share) { advance_lanes(share, seconds); });
  return in_turns(seconds, [&](int64_t i, double left) { return advance_one(i, left); });
}

template <class T>
DescentOptions Many<T>::options_of(int64_t i) const {
  DescentOptions options = options_.common;
  options.tol = options_.tol[i];
  options.sgd.weight_decay = options_.weight_decay[i];
  return options;
}

template <class T>
bool Many<T>::advance_one(int64_t i, double seconds) {
  if (options_.skip[i]) return true;
  One& one = open(i);
  if (!one.descent) {
    one.target = states_.epoch[i] + options_.epochs;
    descend_from(i, state_of(i));
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
void Many<T>::descend_from(int64_t i, DescentState<T> state) {
  One& one = open(i);
  one.descent.emplace(one.problem, options_of(i), std::move(state), one.target,
                      std::move(one.quadratic));
  one.quadratic.reset();
  if (options_.schedule)
    one.descent->set_schedule(options_.first_epoch, options_.lr);
  else
    one.descent->set_constant_lr(options_.lr[i]);
}

// Problems that lanes can serve go through them to where they may end, and from there on, like all
// others, through Descent.
template <class T>
void Many<T>::advance_lanes(Share& share, double seconds) {
  const Deadline deadline(seconds);
  Lanes<T> lanes(rows_.all.size(), options_.common);
  int64_t who[Lanes<T>::count];
  for (bool first = true;; first = false) {
    for (int lane = 0; lane < Lanes<T>::count; ++lane) {
      int64_t& i = who[lane];
      while (!lanes.holds(lane) && (first || deadline.left() > 0) && share.take(i)) {
        if (!options_.skip[i] && load_lane(lanes, lane, i)) break;
        share.put(i, advance_one(i, deadline.left()));
      }
    }
    if (lanes.empty()) return;
    int64_t epochs = Lanes<T>::most_epochs;
    for (int lane = 0; lane < Lanes<T>::count; ++lane)
      if (lanes.holds(lane)) epochs = std::min(epochs, ones_[who[lane]]->left);
    unsigned ending;
    const int64_t done = lanes.run(epochs, ending);
    const bool late = deadline.left() <= 0;
    for (int lane = 0; lane < Lanes<T>::count; ++lane) {
      if (!lanes.holds(lane)) continue;
      const int64_t i = who[lane];
      record(lanes, lane, i, done);
      if (!late && ones_[i]->left > 0 && !(ending >> lane & 1)) continue;
      DescentState<T> state = lanes.unload(lane);
      state.epoch += states_.epoch[i];
      descend_from(i, std::move(state));
      share.put(i, advance_one(i, late ? 0 : deadline.left()));
    }
  }
}

template <class T>
bool Many<T>::load_lane(Lanes<T>& lanes, int lane, int64_t i) {
  One& one = open(i);
  if (!one.quadratic || one.descent || options_.epochs == 0) return false;
  LinearSums sums;
  sums.sample_weight = one.quadratic->sample_weight();
  const Scale scale = scale_of(one.problem.reduction, one.problem.count(one.problem.n, sums));
  one.target = states_.epoch[i] + options_.epochs;
  one.left = options_.epochs;
  lanes.load(lane, *one.quadratic, scale, options_of(i), options_.lr[i], state_of(i));
  return true;
}

// Keeps the losses of the epochs that lanes ran.
template <class T>
void Many<T>::record(const Lanes<T>& lanes, int lane, int64_t i, int64_t epochs) {
  One& one = *ones_[i];
  const int64_t every = options_.common.history;
  for (int64_t e = 0; e < epochs && options_.records > 0; ++e)
    if ((one.target - one.left + e + 1) % every == 0)
      states_.losses[i * options_.records + one.recorded++] = lanes.loss(lane, e);
  one.left -= epochs;
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
  T* const losses = states_.losses.data() + i * options_.records;
  const std::vector<T>& later = descent.history().loss;
  std::copy(later.begin(), later.end(), losses + ones_[i]->recorded);
  if (options_.records == 0) return;
  const int64_t every = options_.common.history, first = ones_[i]->target - options_.epochs;
  std::fill(losses + (state.epoch / every - first / every), losses + options_.records,
            std::numeric_limits<T>::quiet_NaN());
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
