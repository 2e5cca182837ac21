#include "fit/many.hpp"

#include <algorithm>

#include "fit/scaling.hpp"
#include "fp_env.hpp"

namespace gdcore {

// A problem while it is worked on; then the memory serves the next.
template <class T>
struct Many<T>::One {
  enum class Stage { begun, moments, moments_known, curvature, descent } stage = Stage::begun;
  Problem<T> problem{};
  std::vector<T> gathered;  // its rows, where they do not lie together
  MomentsPass<T> pass;
  Quadratic<T> quadratic;
  Spectrum<T> spectrum;
  Descent<T> descent;
  DescentState<T> state;
  std::optional<Exact<T>> exact;
  int64_t target = 0;              // epoch to end at
  int64_t left = 0, recorded = 0;  // in lanes: epochs to run before patience is asked, losses kept
  int64_t last = 0;                // epoch at which they end
  bool impatient = false;          // patience brought it forward
};

namespace {

constexpr int64_t few = 1 << 10;  // fma: a problem's least

template <class T>
void move(Matrix<const T>& m, int64_t elements) {
  if (m.data) m.data += elements;
}
template <class T>
void move(Vector<const T>& v, int64_t elements) {
  if (v.data) v.data += elements;
}

// All but where its rows are.
template <class T>
Problem<T> size_at(const ManyRows<T>& rows, int64_t i) {
  Problem<T> p = rows.all;
  if (!rows.starts.empty()) p.n = rows.starts[i + 1] - rows.starts[i];
  return p;
}

// A problem whose rows are those that `order` names, if it names any.
template <class T>
Problem<T> problem_at(const ManyRows<T>& rows, int64_t i, RowOrder& order) {
  Problem<T> p = size_at(rows, i);
  order = {};
  if (rows.starts.empty()) {
    move(p.X, i * rows.X_step);
    move(p.y, i * rows.y_step);
    move(p.offset, i * rows.offset_step);
    move(p.sample_weight, i * rows.weight_step);
    return p;
  }
  const int64_t begin = rows.starts[i];
  if (rows.order) {
    order = {rows.order + begin, rows.order + rows.starts.back()};
    return p;
  }
  move(p.X, begin * p.X.rs);
  move(p.y, begin * p.y.rs);
  move(p.offset, begin * p.offset.rs);
  move(p.sample_weight, begin * p.sample_weight.stride);
  return p;
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
Problem<T> gathered_problem(const ManyRows<T>& rows, int64_t i, std::vector<T>& gathered) {
  RowOrder order;
  Problem<T> p = problem_at(rows, i, order);
  if (!order.rows) return p;
  gathered.resize(static_cast<size_t>(p.n * (p.d + 2 * p.t + 1)));
  T* to = gathered.data();
  p.X = gather(p.X, p.d, order.rows, p.n, to);
  p.y = gather(p.y, p.t, order.rows, p.n, to);
  p.offset = gather(p.offset, p.t, order.rows, p.n, to);
  const Matrix<const T> weight{p.sample_weight.data, p.sample_weight.stride, 0};
  p.sample_weight = {gather(weight, 1, order.rows, p.n, to).data, 1};
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
Many<T>::Many(ManyRows<T> rows, const std::vector<uint8_t>& gram, bool judged, bool scaled)
    : rows_(std::move(rows)),
      judged_(judged),
      scaled_(scaled),
      ones_(static_cast<size_t>(rows_.count)) {
  const auto count = static_cast<size_t>(rows_.count);
  curvature.assign(count, 0.0);
  error.assign(count, 0.0);
  steepest.assign(count, 0.0);
  rank.assign(count, 0);
  empty.assign(count, 0);
  finite.assign(count, 1);
  for (uint8_t one : gram) streamed.push_back(!one);
  told_.assign(count, 0);
  if (scaled_) scalings_.resize(count * static_cast<size_t>(2 * rows_.all.d + rows_.all.t));
  const bool any =
      judged_ || scaled_ || std::find(gram.begin(), gram.end(), uint8_t{1}) != gram.end();
  stored_ =
      Quadratic<T>::packed_size(rows_.all.size() / std::max<int64_t>(rows_.all.t, 1), rows_.all.t);
  most_rows_ = rows_.starts.empty() ? rows_.all.n : 0;
  for (size_t i = 1; i < rows_.starts.size(); ++i)
    most_rows_ = std::max(most_rows_, rows_.starts[i] - rows_.starts[i - 1]);
  if (any) quadratics_.resize(count * static_cast<size_t>(stored_));
}

template <class T>
Many<T>::~Many() = default;

// The problems that one thread is to work on: it asks for some at a time.
template <class T>
class Many<T>::Share {
 public:
  explicit Share(Many& many, double seconds) : budget(seconds), many_(many) {}
  ~Share() {
    const std::lock_guard lock(many_.mutex_);
    for (; next_ < end_; ++next_) many_.paused_.push_back(next_);
    many_.done_ += done_;
  }

  Budget budget;
  NormalEquations<T> normal;

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

  // What is known of a problem under way; its rows are looked for only if they are to be read.
  One& open(int64_t i, bool rows) {
    std::unique_ptr<One>& one = many_.ones_[static_cast<size_t>(i)];
    if (one) return *one;
    if (free_.empty()) {
      one = std::make_unique<One>();
    } else {
      one = std::move(free_.back());
      free_.pop_back();
    }
    one->stage = One::Stage::begun;
    one->left = one->recorded = 0;
    one->impatient = false;
    if (rows) {
      one->problem = gathered_problem(many_.rows_, i, one->gathered);
      if (many_.rows_.order) budget.spent(many_.work_of_rows(i));
    } else {
      one->problem = size_at(many_.rows_, i);
    }
    one->problem.scaling = many_.scaling_at(i);
    return *one;
  }

  void close(int64_t i) { free_.push_back(std::move(many_.ones_[static_cast<size_t>(i)])); }

 private:
  static constexpr int64_t at_once = 16;
  Many& many_;
  int64_t next_ = 0, end_ = 0, done_ = 0;
  std::vector<std::unique_ptr<One>> free_;
};

// turn(share) on threads, each of which takes problems and puts them back; true when none is left.
template <class T>
template <class Turn>
bool Many<T>::on_threads(double seconds, Turn&& turn) {
  const Problem<T>& p = rows_.all;
  const int64_t rows = rows_.starts.empty() ? p.n * rows_.count : p.n;
  auto body = [&] {
    const FpEnv env;
    Share share(*this, seconds);
    turn(share);
  };
  device<T>().each_thread(
      rows_.count, rows * (p.d + 1) * p.t * 8,
      [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
  if (done_ < rows_.count) return false;
  next_ = done_ = 0;
  return true;
}

// work(i, share) -> done, for every problem.
template <class T>
template <class Work>
bool Many<T>::in_turns(double seconds, Work&& work) {
  return on_threads(seconds, [&](Share& share) {
    int64_t i;
    for (bool first = true; share.take(i); first = false) {
      const bool finished = (first || !share.budget.spent(few)) && work(i, share);
      share.put(i, finished);
      if (!finished) return;
    }
  });
}

template <class T>
bool Many<T>::survey(bool curvature_too, bool steepest_too, double seconds) {
  const Wanted wanted{curvature_too, steepest_too};
  if (!quadratics_.empty() && MomentsLanes<T>::serve(rows_.all, std::min(most_rows_, L<T>)))
    return on_threads(seconds, [&](Share& share) { survey_lanes(wanted, share); });
  return in_turns(seconds, [&](int64_t i, Share& share) { return survey_one(i, wanted, share); });
}

// Moments of those problems that lanes can serve, so many at a time; then all go on alone.
template <class T>
void Many<T>::survey_lanes(Wanted wanted, Share& share) {
  MomentsLanes<T> summing(rows_.all.d, std::min(most_rows_, L<T>));
  int64_t who[lanes], i;
  for (bool first = true;;) {
    int held = 0;
    while (held < lanes && (first || !share.budget.spent(few)) && share.take(i)) {
      first = false;
      RowOrder order;
      const Problem<T> problem = problem_at(rows_, i, order);
      if (!needs_moments(i) || ones_[i] || problem.n == 0 || problem.n > L<T>) {
        share.put(i, survey_one(i, wanted, share));
        continue;
      }
      summing.load(held, problem, order);
      who[held++] = i;
    }
    if (held == 0) return;
    summing.run();
    share.budget.spent(L<T> * (rows_.all.d + 2) * (rows_.all.d + 2));
    for (int lane = 0; lane < held; ++lane) {
      One& one = share.open(who[lane], false);
      summing.moments(lane, one.pass.moments);
      keep_moments(who[lane], one);
      one.stage = One::Stage::moments_known;
      // What is still to be known of it may need its rows.
      if (streamed[who[lane]] && wanted.curvature) share.close(who[lane]);
      share.put(who[lane], survey_one(who[lane], wanted, share));
    }
  }
}

// True when done; otherwise it goes on where it was.
template <class T>
bool Many<T>::survey_one(int64_t i, Wanted wanted, Share& share) {
  One& one = share.open(i, needs_moments(i) || wanted.curvature || rows_.all.sample_weight.data);
  if (!survey_stages(i, one, wanted, share.budget)) return false;
  share.close(i);
  return true;
}

template <class T>
bool Many<T>::survey_stages(int64_t i, One& one, Wanted wanted, Budget& budget) {
  typedef typename One::Stage Stage;
  if (one.stage == Stage::begun) {
    empty[i] = !counts(one.problem);
    if (empty[i]) return true;
    const bool due = needs_moments(i) && !told_[i];
    if (due) one.pass.restart(one.problem);
    one.stage = due ? Stage::moments : Stage::moments_known;
  }
  if (one.stage == Stage::moments) {
    if (!one.pass.run(budget)) return false;
    keep_moments(i, one);
    one.stage = Stage::moments_known;
  }
  if (one.stage == Stage::moments_known) {
    if (!finite[i] || !wanted.curvature) return true;
    if (!streamed[i]) find_quadratic(i, one);
    one.spectrum.restart(one.problem, streamed[i] ? nullptr : &one.quadratic);
    one.stage = Stage::curvature;
  }
  if (!one.spectrum.advance(budget)) return false;
  curvature[i] = one.spectrum.largest();
  error[i] = one.spectrum.residual();
  finite[i] = std::isfinite(curvature[i]);
  if (wanted.steepest) steepest[i] = largest_row(one.problem);
  return true;
}

template <class T>
void Many<T>::keep_moments(int64_t i, One& one) {
  Moments& moments = one.pass.moments;
  moments.close();
  finite[i] = moments.finite();
  const bool in_range = moments.in_range(sizeof(T) == 4);
  told_[i] = finite[i] && (in_range || sizeof(T) == 4);
  if (scaled_ && !told_[i]) finite[i] = 0;
  if (!in_range && !scaled_) streamed[i] = 1;
  if (!told_[i]) return;
  double* const scaling = scaled_ ? &scalings_[i * (2 * moments.d + moments.t)] : nullptr;
  if (scaled_) find_scaling<T>(moments, one.problem.fit_intercept, scaling);
  one.problem.scaling = scaling;
  Quadratic<T>::pack(moments, one.problem.fit_intercept, scaling, &quadratics_[i * stored_]);
}

template <class T>
const double* Many<T>::scaling_at(int64_t i) const {
  return scaled_ && told_[i] ? &scalings_[i * (2 * rows_.all.d + rows_.all.t)] : nullptr;
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
  states_.r2_lost.assign(count, std::numeric_limits<double>::quiet_NaN());
  states_.momentum = options_.momentum;
  states_.losses.assign(count * static_cast<size_t>(options_.records), nan);
  if (options_.common.sgd.momentum != 0) states_.velocity.resize(states_.params.size());
}

template <class T>
bool Many<T>::advance(double seconds) {
  if (!options_.schedule && Lanes<T>::serve(rows_.all, options_.common))
    return on_threads(seconds, [&](Share& share) { advance_lanes(share); });
  return in_turns(seconds, [&](int64_t i, Share& share) { return advance_one(i, share); });
}

template <class T>
DescentOptions Many<T>::options_of(int64_t i) const {
  DescentOptions options = options_.common;
  options.tol = options_.tol[i];
  options.sgd.weight_decay = options_.weight_decay[i];
  options.sgd.momentum = states_.momentum[i];
  return options;
}

template <class T>
bool Many<T>::advance_one(int64_t i, Share& share) {
  typedef typename One::Stage Stage;
  if (options_.skip[i]) return true;
  One& one = share.open(i, streamed[i]);
  if (one.stage == Stage::begun) {
    one.target = states_.epoch[i] + options_.epochs;
    state_of(i, one.state);
    choose_rates(i, one);
    descend(i, one);
  }
  const Outcome outcome = one.descent.advance(share.budget);
  if (outcome == Outcome::running) return false;
  states_.outcome[i] = outcome;
  keep_descent(i, one);
  if (one.descent.loss_doubtful()) states_.loss[i] = loss_of_rows(i, share.budget);
  share.close(i);
  return true;
}

// From the state that it has, to the target.
template <class T>
void Many<T>::descend(int64_t i, One& one) {
  if (told_[i]) find_quadratic(i, one);
  one.descent.restart(one.problem, options_of(i), one.state, one.target,
                      told_[i] ? &one.quadratic : nullptr, streamed[i]);
  const T* const start = states_.params.data() + i * rows_.all.size();
  one.descent.set_start(states_.epoch[i], {start, start + rows_.all.size()});
  if (options_.schedule)
    one.descent.set_schedule(options_.first_epoch, options_.lr);
  else
    one.descent.set_constant_lr(options_.lr[i]);
  one.stage = One::Stage::descent;
}

template <class T>
void Many<T>::find_quadratic(int64_t i, One& one) const {
  const Problem<T>& p = rows_.all;
  one.quadratic.assign(p.d, p.t, p.fit_intercept, quadratics_.data() + i * stored_);
}

template <class T>
void Many<T>::choose_rates(int64_t i, One& one) {
  if (!options_.auto_momentum) return;
  find_quadratic(i, one);
  const auto rates = auto_rates(one.quadratic, one.problem, options_of(i),
                                states_.params.data() + i * rows_.all.size(), options_.epochs,
                                {options_.lr[i], states_.momentum[i]});
  options_.lr[i] = rates.lr;
  states_.momentum[i] = rates.momentum;
}

template <class T>
double Many<T>::norm_bound(int64_t i, const Objective& objective) const {
  if (!told_[i] || options_.tol[i] < 0) return -1;
  const int64_t p = rows_.all.size();
  return Goal<T>::norm_bound(p, &quadratics_[i * stored_], objective, options_.tol[i]);
}

// More epochs in lanes, as far as patience goes.
template <class T>
void Many<T>::extend(int64_t i, One& one) {
  const int64_t begun = states_.epoch[i], done = one.last;
  if (done >= one.target || done > begun + least_patience) return;
  one.last = one.target;
  if (told_[i] && options_.tol[i] >= 0) {
    find_quadratic(i, one);
    const int64_t most = patience_of(one.quadratic, one.problem, options_of(i), options_.lr[i],
                                     states_.params.data() + i * rows_.all.size());
    one.impatient = most < one.target - begun;
    if (one.impatient) one.last = begun + most;
  }
  one.left = one.last - done;
}

// Problems side by side in lanes, all on quadratics or all on rows.
template <class T>
struct Many<T>::Team {
  Lanes<T> descents;
  int64_t who[lanes];
};

// Problems that lanes can serve go through them to where they may end, and from there on, like all
// others, through Descent.
template <class T>
void Many<T>::advance_lanes(Share& share) {
  const Problem<T>& all = rows_.all;
  const int64_t rows = Lanes<T>::serve_rows(all, 0) ? std::min(most_rows_, L<T>) : 0;
  Team teams[] = {{Lanes<T>(all.size(), options_.common), {}},
                  {Lanes<T>(all, rows, options_.common), {}}};
  int64_t i;
  for (bool first = true;;) {
    Team* full = nullptr;
    for (Team& team : teams)  // none of it may have ended in its last run
      if (team.descents.full()) full = &team;
    while (!full && (first || !share.budget.spent(few)) && share.take(i)) {
      first = false;
      Team& team = teams[streamed[i]];
      if (options_.skip[i] || !load_lane(team, i, share))
        share.put(i, advance_one(i, share));
      else if (team.descents.full())
        full = &team;
    }
    if (full) {
      run(*full, share);
      continue;
    }
    if (teams[0].descents.empty() && teams[1].descents.empty()) return;
    for (Team& team : teams)
      if (!team.descents.empty()) run(team, share);
  }
}

// To where one of them may end, or the time is over.
template <class T>
void Many<T>::run(Team& team, Share& share) {
  Lanes<T>& descents = team.descents;
  int64_t epochs = Lanes<T>::most_epochs;
  for (int lane = 0; lane < lanes; ++lane)
    if (descents.holds(lane)) epochs = std::min(epochs, ones_[team.who[lane]]->left);
  unsigned ending;
  const int64_t done = descents.run(epochs, ending);
  const bool late = share.budget.spent(descents.work(done));
  for (int lane = 0; lane < lanes; ++lane) {
    if (!descents.holds(lane)) continue;
    const int64_t i = team.who[lane];
    One& one = *ones_[i];
    record(descents, lane, i, done);
    if (one.left == 0 && !(ending >> lane & 1)) extend(i, one);
    if (!late && one.left > 0 && !(ending >> lane & 1)) continue;
    descents.unload(lane, one.state);
    if (one.left == 0 && !(ending >> lane & 1) && loss_known(descents, lane, i, done)) {
      const bool going = (one.state.moved || options_.tol[i] < 0) && !one.impatient;
      states_.outcome[i] = going ? Outcome::max_epochs : Outcome::stalled;
      keep(i, one.state, descents.loss(lane, done), r2_lost(i, one));
      share.close(i);
      share.put(i, true);
      continue;
    }
    if (streamed[i]) one.problem = gathered_problem(rows_, i, one.gathered);
    one.problem.scaling = scaling_at(i);
    descend(i, one);
    share.put(i, advance_one(i, share));
  }
}

// Whether what lanes tell of a problem's loss after their last epoch is more than rounding errors,
// which Descent would leave to the rows.
template <class T>
bool Many<T>::loss_known(const Lanes<T>& descents, int lane, int64_t i, int64_t epoch) const {
  if (streamed[i]) return true;
  const T loss = descents.loss(lane, epoch);
  if (!(loss >= std::numeric_limits<T>::min())) return false;
  constexpr double clearly = 1.01;  // the loss is rounded
  const double squares = descents.divisor(lane) * loss;
  const T* const params = ones_[i]->state.params.data();
  return squares >
         clearly * Quadratic<T>::least_known(rows_.all.size(), &quadratics_[i * stored_], params);
}

template <class T>
bool Many<T>::load_lane(Team& team, int64_t i, Share& share) {
  const Problem<T> size = size_at(rows_, i);
  if (options_.epochs == 0 || ones_[i] || (streamed[i] && !Lanes<T>::serve_rows(size, size.n)))
    return false;
  One& one = share.open(i, false);
  const int lane = team.descents.free_lane();
  LinearSums sums;
  if (streamed[i]) {
    RowOrder order;
    Problem<T> problem = problem_at(rows_, i, order);
    problem.scaling = scaling_at(i);
    team.descents.load(lane, problem, order);
  } else {
    const double* const packed = &quadratics_[i * stored_];
    sums.sample_weight = Quadratic<T>::tail(size.size(), 1, packed).sample_weight();
    team.descents.load(lane, packed);
  }
  one.target = states_.epoch[i] + options_.epochs;
  one.left = std::min(options_.epochs, least_patience);
  one.last = states_.epoch[i] + one.left;
  state_of(i, one.state);
  choose_rates(i, one);
  const DescentOptions options = options_of(i);
  const Objective objective = size.objective(size.count(size.n, sums), options.sgd);
  team.descents.start(lane, objective, options, options_.lr[i], norm_bound(i, objective),
                      one.state);
  team.who[lane] = i;
  return true;
}

// Keeps the losses of the epochs that lanes ran.
template <class T>
void Many<T>::record(const Lanes<T>& descents, int lane, int64_t i, int64_t epochs) {
  One& one = *ones_[i];
  const int64_t every = options_.common.history;
  const int64_t first = one.last - one.left;
  for (int64_t e = 0; e < epochs && options_.records > 0; ++e)
    if ((first + e + 1) % every == 0)
      states_.losses[i * options_.records + one.recorded++] = descents.loss(lane, e);
  one.left -= epochs;
}

template <class T>
bool Many<T>::solve(const ExactOptions& options, double seconds) {
  return in_turns(seconds, [&](int64_t i, Share& share) { return solve_one(i, options, share); });
}

template <class T>
bool Many<T>::solve_one(int64_t i, ExactOptions options, Share& share) {
  options.weight_decay = options_.weight_decay[i];
  if (options_.skip[i] || solve_moments(i, options, share)) return true;
  One& one = share.open(i, true);
  if (!one.exact) one.exact.emplace(one.problem, options);
  if (!one.exact->advance(share.budget)) return false;
  const auto solution = one.exact->solve();
  one.exact.reset();
  keep_solution(i, solution.params, solution.rank);
  states_.loss[i] = loss_of_rows(i, share.budget);
  share.close(i);
  return true;
}

template <class T>
bool Many<T>::solve_moments(int64_t i, const ExactOptions& options, Share& share) {
  if (streamed[i] || ones_[i]) return false;
  NormalEquations<T>& normal = share.normal;
  const Problem<T> size = size_at(rows_, i);
  const int64_t p = size.size() / size.t;
  share.budget.spent(p * p * (p + size.t));
  if (!normal.solve(size, &quadratics_[i * stored_], options)) return false;
  keep_solution(i, normal.params(), p);
  states_.loss[i] = normal.loss_known() ? normal.loss() : loss_of_rows(i, share.budget);
  return true;
}

template <class T>
void Many<T>::keep_solution(int64_t i, const std::vector<T>& params, int64_t rank_of_rows) {
  std::copy(params.begin(), params.end(), states_.params.begin() + i * rows_.all.size());
  rank[i] = rank_of_rows;
  states_.outcome[i] = Outcome::converged;
}

// Those that are still under way included.
template <class T>
const ManyStates<T>& Many<T>::states() {
  for (int64_t i = 0; i < rows_.count; ++i)
    if (ones_[i] && ones_[i]->stage == One::Stage::descent) keep_descent(i, *ones_[i]);
  return states_;
}

// Of one pass over the rows.
template <class T>
std::vector<T> Many<T>::returned_params() const {
  std::vector<T> params = states_.params;
  const Problem<T>& p = rows_.all;
  for (int64_t i = 0; i < rows_.count; ++i)
    if (const double* scaling = scaling_at(i))
      from_scaled(scaling, p.d, p.t, p.fit_intercept, params.data() + i * p.size());
  return params;
}

// The R^2 that a state in a lane loses.
template <class T>
double Many<T>::r2_lost(int64_t i, One& one) const {
  if (!told_[i] || options_.tol[i] < 0) return std::numeric_limits<double>::quiet_NaN();
  find_quadratic(i, one);
  const DescentOptions options = options_of(i);
  Goal<T> goal;
  goal.assign(one.quadratic, one.problem.objective(one.quadratic.sample_weight(), options.sgd),
              options.tol, one.problem.returned());
  return goal.known() ? goal.r2_lost(one.state.params.data())
                      : std::numeric_limits<double>::quiet_NaN();
}

template <class T>
int64_t Many<T>::work_of_rows(int64_t i) const {
  const Problem<T> p = size_at(rows_, i);
  return 8 * p.n * (p.d + 1) * p.t;
}

template <class T>
void Many<T>::state_of(int64_t i, DescentState<T>& state) const {
  const int64_t p = rows_.all.size();
  const auto part = [&](const std::vector<T>& all, std::vector<T>& one) {
    one.assign(all.begin() + i * p, all.begin() + (i + 1) * p);
  };
  const DescentState<T> fresh;
  part(states_.params, state.params);
  state.velocity.clear();
  if (!states_.velocity.empty() && states_.moving[i]) part(states_.velocity, state.velocity);
  state.previous.clear();
  state.epoch_sums.reset(rows_.all.d, rows_.all.t);
  state.epoch = states_.epoch[i];
  state.first_loss = states_.first_loss[i];
  state.last_loss = states_.last_loss[i];
  state.lr = fresh.lr;
  state.moved = fresh.moved;
}

template <class T>
void Many<T>::keep(int64_t i, const DescentState<T>& state, T loss, double r2_lost) {
  const int64_t p = rows_.all.size();
  std::copy(state.params.begin(), state.params.end(), states_.params.begin() + i * p);
  if (!states_.velocity.empty())
    std::copy(state.velocity.begin(), state.velocity.end(), states_.velocity.begin() + i * p);
  states_.moving[i] = !state.velocity.empty();
  states_.epoch[i] = state.epoch;
  states_.first_loss[i] = state.first_loss;
  states_.last_loss[i] = state.last_loss;
  states_.lr[i] = state.lr;
  states_.loss[i] = loss;
  states_.r2_lost[i] = r2_lost;
}

template <class T>
void Many<T>::keep_descent(int64_t i, One& one) {
  const DescentState<T>& state = one.descent.state();
  keep(i, state, one.descent.loss(), one.descent.r2_lost());
  if (options_.records == 0) return;
  T* const losses = states_.losses.data() + i * options_.records;
  const std::vector<T>& later = one.descent.history().loss;
  std::copy(later.begin(), later.end(), losses + one.recorded);
  const int64_t every = options_.common.history, first = one.target - options_.epochs;
  std::fill(losses + (state.epoch / every - first / every), losses + options_.records,
            std::numeric_limits<T>::quiet_NaN());
}

template <class T>
T Many<T>::loss_of_rows(int64_t i, Budget& budget) const {
  std::vector<T> gathered;
  DescentState<T> state;
  state_of(i, state);
  Problem<T> problem = gathered_problem(rows_, i, gathered);
  problem.scaling = scaling_at(i);
  Descent<T> none(problem, DescentOptions{}, state, 0);
  none.set_constant_lr(0);
  budget.spent(work_of_rows(i));
  while (none.advance(1.0) == Outcome::running) continue;
  return none.loss();
}

template class Many<float>;
template class Many<double>;

}  // namespace gdcore
