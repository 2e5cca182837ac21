#include "fit/many.hpp"

#include <algorithm>
#include <atomic>
#include <optional>

#include "fit/scaling.hpp"
#include "fp_env.hpp"
#include "host.hpp"

namespace gdcore {
namespace {

constexpr int64_t min_work_per_problem = 1 << 10;  // fma
constexpr double endless_seconds = 1e6;
// Work of one call of the device: some milliseconds of one thread.
template <class T>
int64_t most_device_work(const Device<T>& device) {
  return 32 * Budget::unit * speed_of(device);
}

}  // namespace

// The problem of a batch that is worked on by itself; its memory serves the next one.
template <class T>
struct Many<T>::InProgress {
  enum class Stage { none, opened, moments, moments_known, curvature, descent, inference };
  Stage stage = Stage::none;
  Problem<T> problem{};
  std::vector<T> gathered;  // its rows, where they are not consecutive
  MomentsPass<T> pass;
  Quadratic<T> quadratic;
  Spectrum<T> spectrum;
  Descent<T> descent;
  DescentState<T> state;
  int64_t begun = 0;  // epoch at which this fit began
  std::optional<Exact<T>> exact;
  NormalEquations<T> normal;
  Inference<T> inference;
};

// Consecutive problems that one thread works on: all at once on the device, then one by one.
template <class T>
struct Many<T>::Batch {
  int64_t begin = 0, end = 0;  // of its problems
  int64_t next = 0;            // those before it are done
  int64_t counted = 0;         // those before it are counted as done
  bool collected = false;      // for the device
  int64_t asked = 0;           // those before it have been asked for what the host can do beside it
  InProgress one;

  std::vector<uint8_t> summed;    // a batch made its moments
  std::vector<uint8_t> ended;     // beside the device
  std::vector<uint8_t> loss_due;  // the rows tell the loss at the end
  std::vector<ProblemRows<T>> rows;
  std::vector<Moments> moments;
  std::vector<int64_t> who;  // problems of `rows`, or of `descents`

  // How far the device has brought a problem.
  struct Progress {
    int64_t target = 0;  // epoch to end at
    int64_t last = 0;    // epoch that patience lets it reach before it is asked again
    T loss = 0;          // there
    uint8_t moved = 1, may_end = 0;
    bool on_device = false, impatient = false;  // impatient: patience brought the target forward
  };
  std::vector<Progress> progress;
  std::vector<T> previous, started;      // (problems, p): before the last step, and at the start
  std::vector<DescentArgs<T>> descents;  // not ended yet

  size_t place(int64_t i) const { return static_cast<size_t>(i - begin); }
  Progress& at(int64_t i) { return progress[place(i)]; }
  const Progress& at(int64_t i) const { return progress[place(i)]; }

  void restart(int64_t first, int64_t last) {
    begin = next = counted = asked = first;
    end = last;
    collected = false;
    one.stage = InProgress::Stage::none;
    for (auto* flags : {&summed, &ended, &loss_due}) flags->assign(place(end), 0);
    progress.clear();
  }
};

template <class T>
Many<T>::Many(ManyRows<T> rows, const std::vector<uint8_t>& gram, bool judged, bool scaled)
    : rows_(std::move(rows)), judged_(judged), scaled_(scaled) {
  const auto count = static_cast<size_t>(rows_.count);
  const Problem<T>& all = rows_.all;
  curvature.assign(count, 0.0);
  error.assign(count, 0.0);
  steepest.assign(count, 0.0);
  rank.assign(count, 0);
  empty.assign(count, 0);
  finite.assign(count, 1);
  for (uint8_t one : gram) from_rows.push_back(!one);
  known_.assign(count, 0);
  if (scaled_) scalings_.resize(count * static_cast<size_t>(2 * all.d + all.t));
  const bool any =
      judged_ || scaled_ || std::find(gram.begin(), gram.end(), uint8_t{1}) != gram.end();
  packed_size_ = Quadratic<T>::packed_size(all.size() / std::max<int64_t>(all.t, 1), all.t);
  most_rows_ = rows_.most_rows();
  if (any) packed_.resize(count * static_cast<size_t>(packed_size_));
}

template <class T>
Many<T>::~Many() = default;

// Small problems in batches that keep the device busy; large ones one by one, if threads share
// them.
template <class T>
int64_t Many<T>::batch_size() const {
  constexpr int64_t large = 1 << 18, least = 16, batches = 64;
  const Problem<T>& p = rows_.all;
  if (!p.device->of_host) return std::clamp<int64_t>(rows_.count, 1, p.device->block);
  if (most_rows_ * (p.d + 1) * p.t > large) return 1;
  const int64_t share = (rows_.count / batches + least - 1) / least * least;
  return std::clamp(share, least, std::max(least, p.device->block));
}

template <class T>
std::unique_ptr<typename Many<T>::Batch> Many<T>::pop() {
  const std::lock_guard lock(queue_.mutex);
  std::unique_ptr<Batch> batch;
  if (!queue_.paused.empty()) {
    batch = std::move(queue_.paused.back());
    queue_.paused.pop_back();
    return batch;
  }
  if (queue_.next == rows_.count) return nullptr;
  if (queue_.unused.empty()) {
    batch = std::make_unique<Batch>();
  } else {
    batch = std::move(queue_.unused.back());
    queue_.unused.pop_back();
  }
  const int64_t first = queue_.next;
  queue_.next = std::min(first + batch_size(), rows_.count);
  batch->restart(first, queue_.next);
  return batch;
}

template <class T>
void Many<T>::push(std::unique_ptr<Batch> batch, bool finished) {
  const std::lock_guard lock(queue_.mutex);
  queue_.done += batch->next - batch->counted;
  batch->counted = batch->next;
  (finished ? queue_.unused : queue_.paused).push_back(std::move(batch));
}

// work(batch, budget) on threads until each has returned true; false if that needs another call. A
// device with its own memory is asked by one thread.
template <class T>
template <class Work>
bool Many<T>::in_batches(double seconds, Work&& work) {
  const Problem<T>& p = rows_.all;
  const int64_t rows = rows_.starts.empty() ? p.n * rows_.count : p.n;
  const int64_t batches = (rows_.count + batch_size() - 1) / batch_size();
  auto run = [&] {
    const FpEnv env;
    Budget budget(seconds);
    while (auto batch = pop()) {
      const bool finished = work(*batch, budget);
      push(std::move(batch), finished);
      if (!finished || budget.spent(min_work_per_problem)) return;
    }
  };
  if (p.device->of_host)
    host::on_threads(batches, rows * (p.d + 1) * p.t * 8, run);
  else
    run();
  if (queue_.done < rows_.count) return false;
  queue_.next = queue_.done = 0;
  return true;
}

// work(i) for the problems of a batch until one returns false, or the time is over.
template <class T>
template <class Work>
bool Many<T>::one_by_one(Batch& batch, Budget& budget, Work&& work) {
  for (bool first = true; batch.next < batch.end; first = false) {
    if (!first && budget.spent(min_work_per_problem)) return false;
    if (!work(batch.next)) return false;
    batch.one.stage = InProgress::Stage::none;
    ++batch.next;
  }
  return true;
}

// Threads do what needs no device with its own memory: work(i, in progress) returns whether problem
// i has ended. False if that needs another call.
template <class T>
template <class Work>
bool Many<T>::beside_device(Batch& batch, Budget& budget, Work&& work) {
  if (rows_.all.device->of_host) return true;
  constexpr int64_t part = 64;
  std::atomic<int64_t> next{batch.asked};
  const int64_t left = batch.end - batch.asked;
  host::on_threads(ceil_div(left, part), left * Budget::unit / part, [&] {
    const FpEnv env;
    InProgress one;
    Budget mine = budget;
    do {
      const int64_t first = next.fetch_add(part), last = std::min(first + part, batch.end);
      for (int64_t i = first; i < last; ++i) {
        batch.ended[batch.place(i)] = work(i, one);
        one.stage = InProgress::Stage::none;
      }
    } while (next < batch.end && !mine.spent(Budget::unit));
  });
  batch.asked = std::min<int64_t>(next, batch.end);
  return batch.asked == batch.end;
}

template <class T>
Problem<T> Many<T>::open_rows(int64_t i, InProgress& one, Budget& budget) const {
  Problem<T> problem = rows_.gathered(i, one.gathered);
  if (rows_.order) budget.spent(work_of_rows(i));
  problem.scaling = scaling_of(i);
  return problem;
}

// ---- What the first step needs ----

template <class T>
bool Many<T>::prepare(bool curvature_too, bool steepest_too, double seconds) {
  const Wanted wanted{curvature_too, steepest_too};
  return in_batches(
      seconds, [&](Batch& batch, Budget& budget) { return prepare_batch(batch, wanted, budget); });
}

template <class T>
bool Many<T>::prepare_batch(Batch& batch, Wanted wanted, Budget& budget) {
  if (!batch.collected && !packed_.empty()) sum_moments(batch, budget);
  batch.collected = true;
  const bool through = beside_device(batch, budget, [&](int64_t i, InProgress& one) {
    const bool summed = batch.summed[batch.place(i)];
    if (!summed || wanted.steepest || (wanted.curvature && from_rows[i])) return false;
    Budget endless(endless_seconds);
    return prepare_one(i, one, summed, wanted, endless);
  });
  return through && one_by_one(batch, budget, [&](int64_t i) {
           const size_t place = batch.place(i);
           return batch.ended[place] ||
                  prepare_one(i, batch.one, batch.summed[place], wanted, budget);
         });
}

// The moments of all small problems of a batch, in parts that a first cache holds, or that keep a
// device with its own memory busy.
template <class T>
void Many<T>::sum_moments(Batch& batch, Budget& budget) {
  const Problem<T>& all = rows_.all;
  const int64_t speed = speed_of(*all.device);
  const int64_t most_bytes = speed << 14, most_work = speed << 18;
  if (all.sample_weight.data) return;  // a problem may have no row of any weight
  const int64_t columns = all.d + 1 + all.t;
  const int64_t bytes = 16 * (all.d + 1) * columns;
  int64_t most = 1;
  while (2 * most * bytes <= most_bytes && most < batch.end - batch.begin) most *= 2;
  batch.moments.resize(static_cast<size_t>(most));
  int64_t count = 0;
  auto run = [&] {
    all.device->moments_each(count, batch.rows.data(), batch.moments.data());
    for (int64_t k = 0; k < count; ++k) {
      const int64_t i = batch.who[k];
      keep_moments(i, batch.moments[k]);
      batch.summed[batch.place(i)] = 1;
      budget.spent(host_work(*all.device, batch.rows[k].args.n * columns * columns));
    }
    count = 0;
  };
  batch.rows.assign(static_cast<size_t>(most), {all.args(nullptr), {}});
  batch.who.resize(static_cast<size_t>(most));
  for (int64_t i = batch.begin; i < batch.end; ++i) {
    ProblemRows<T>& rows = batch.rows[count];
    rows_.locate(i, rows.args, rows.order);
    const int64_t n = rows.args.n;
    if (!needs_moments(i) || n == 0 || n * columns * columns > most_work) continue;
    batch.who[count++] = i;
    if (count == most) run();
  }
  if (count > 0) run();
}

// True when done; otherwise it continues where it was.
template <class T>
bool Many<T>::prepare_one(int64_t i, InProgress& one, bool summed, Wanted wanted, Budget& budget) {
  using Stage = typename InProgress::Stage;
  if (one.stage == Stage::none) {
    if (summed && !wanted.curvature && !wanted.steepest) return true;
    const bool due = needs_moments(i) && !summed;
    const bool rows = due || wanted.steepest || (wanted.curvature && from_rows[i]) ||
                      rows_.all.sample_weight.data;
    one.problem = rows ? open_rows(i, one, budget) : rows_.size_of(i);
    one.problem.scaling = scaling_of(i);
    empty[i] = !has_weight(one.problem);
    if (empty[i]) return true;
    if (due) one.pass.restart(one.problem);
    one.stage = due ? Stage::moments : Stage::moments_known;
  }
  if (one.stage == Stage::moments) {
    if (!one.pass.run(budget)) return false;
    one.pass.moments.close();
    keep_moments(i, one.pass.moments);
    one.problem.scaling = scaling_of(i);
    one.stage = Stage::moments_known;
  }
  if (one.stage == Stage::moments_known) {
    if (!finite[i] || !wanted.curvature) return true;
    if (!from_rows[i]) find_quadratic(i, one.quadratic);
    one.spectrum.restart(one.problem, from_rows[i] ? nullptr : &one.quadratic);
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
void Many<T>::keep_moments(int64_t i, const Moments& moments) {
  finite[i] = moments.finite();
  const bool in_range = moments.in_range(sizeof(T) == 4);
  known_[i] = finite[i] && (in_range || sizeof(T) == 4);
  if (scaled_ && !known_[i]) finite[i] = 0;
  if (!in_range && !scaled_) from_rows[i] = 1;
  if (!known_[i]) return;
  const bool fit_intercept = rows_.all.fit_intercept;
  double* const scaling = scaled_ ? &scalings_[i * (2 * moments.d + moments.t)] : nullptr;
  if (scaled_) find_scaling<T>(moments, fit_intercept, scaling);
  Quadratic<T>::pack(moments, fit_intercept, scaling, &packed_[i * packed_size_]);
}

template <class T>
const double* Many<T>::scaling_of(int64_t i) const {
  return scaled_ && known_[i] ? &scalings_[i * (2 * rows_.all.d + rows_.all.t)] : nullptr;
}

template <class T>
void Many<T>::find_quadratic(int64_t i, Quadratic<T>& quadratic) const {
  const Problem<T>& p = rows_.all;
  quadratic.assign(p.d, p.t, p.fit_intercept, packed_.data() + i * packed_size_);
}

// ---- Descents ----

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
  return in_batches(seconds,
                    [&](Batch& batch, Budget& budget) { return descend_batch(batch, budget); });
}

// The device runs the ordinary epochs of all its problems; then each is brought to its end.
template <class T>
bool Many<T>::descend_batch(Batch& batch, Budget& budget) {
  if (!batch.collected) collect_descents(batch, budget);
  batch.collected = true;
  if (!run_on_device(batch, budget)) return false;
  const bool through = beside_device(batch, budget, [&](int64_t i, InProgress& one) {
    Budget endless(endless_seconds);
    return !from_rows[i] && finish(i, batch, one, endless);
  });
  return through && one_by_one(batch, budget, [&](int64_t i) {
           const size_t place = batch.place(i);
           if (!batch.ended[place] && !finish(i, batch, batch.one, budget)) return false;
           if (batch.loss_due[place]) states_.loss[i] = loss_of_rows(i, budget);
           return true;
         });
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
void Many<T>::choose_rates(int64_t i, Quadratic<T>& quadratic) {
  if (!options_.auto_momentum) return;
  find_quadratic(i, quadratic);
  const auto rates = auto_rates(quadratic, rows_.size_of(i), options_of(i), params_of(i),
                                options_.epochs, {options_.lr[i], states_.momentum[i]});
  options_.lr[i] = rates.lr;
  states_.momentum[i] = rates.momentum;
}

// See end_rules of Descent.
template <class T>
double Many<T>::norm_bound(int64_t i, const Objective& objective) const {
  if (options_.tol[i] < 0) return -1;
  if (!known_[i] || options_.common.sgd.maximize) return 0;
  const Problem<T>& p = rows_.all;
  return Goal<T>::norm_bound(p.size() / p.t, p.t, &packed_[i * packed_size_], objective,
                             options_.tol[i]);
}

// Epochs that are passes to pause in, and those of mini-batches, are Descent's.
template <class T>
bool Many<T>::suits_device(const Problem<T>& size, int64_t i) const {
  if (options_.skip[i] || size.size() == 0) return false;
  if (!from_rows[i]) return true;
  return size.n > 0 && !size.sample_weight.data &&
         work_of_rows(i) <= most_device_work(*rows_.all.device) / 64;
}

template <class T>
void Many<T>::collect_descents(Batch& batch, Budget& budget) {
  const int64_t count = batch.end - batch.begin, p = rows_.all.size();
  batch.progress.assign(static_cast<size_t>(count), {});
  batch.descents.clear();
  batch.who.clear();
  if (options_.epochs == 0 || options_.schedule || options_.common.batch_size > 0) return;
  batch.previous.resize(static_cast<size_t>(count * p));
  batch.started.assign(params_of(batch.begin), params_of(batch.end));
  for (int64_t i = batch.begin; i < batch.end; ++i) {
    const Problem<T> size = rows_.size_of(i);
    if (!suits_device(size, i)) continue;
    auto& progress = batch.at(i);
    progress.on_device = true;
    progress.target = states_.epoch[i] + options_.epochs;
    progress.last = states_.epoch[i] + std::min(options_.epochs, least_patience);
    choose_rates(i, batch.one.quadratic);
    const DescentOptions options = options_of(i);
    const double* const packed = from_rows[i] ? nullptr : &packed_[i * packed_size_];
    LinearSums sums;
    if (packed) sums.sample_weight = Quadratic<T>::tail(p / size.t, size.t, packed).sample_weight();

    DescentArgs<T>& args = batch.descents.emplace_back();
    args.rows.args = size.args(params_of(i));
    if (!packed) rows_.locate(i, args.rows.args, args.rows.order);
    args.rows.args.scaling = scaling_of(i);
    args.quadratic = packed;
    args.size = p;
    args.scale = size.scale(size.n, sums);
    args.sgd = options.sgd;
    args.decayed = options.sgd.decay_intercept ? p : size.d * size.t;
    args.lr = options_.lr[i];
    const double total = size.count(size.n, sums) / static_cast<double>(size.t);
    args.norm_bound = norm_bound(i, size.objective(total, options.sgd));
    args.stop_on_equal_loss = options.stop_on_equal_loss;
    args.params = params_of(i);
    args.velocity = states_.velocity.empty() ? nullptr : states_.velocity.data() + i * p;
    args.previous = batch.previous.data() + (i - batch.begin) * p;
    args.first_loss = &states_.first_loss[i];
    args.last_loss = &states_.last_loss[i];
    args.moving = &states_.moving[i];
    args.moved = &progress.moved;
    args.epoch = &states_.epoch[i];
    args.loss = &progress.loss;
    args.may_end = &progress.may_end;
    if (options_.records > 0) {
      args.every = options.history;
      args.losses = states_.losses.data() + i * options_.records;
    }
    batch.who.push_back(i);
    if (packed == nullptr) budget.spent(host_work(*rows_.all.device, work_of_rows(i)));
  }
}

// Until no descent of the batch is left that may go on, or the time is over.
template <class T>
bool Many<T>::run_on_device(Batch& batch, Budget& budget) {
  const Device<T>& device = *rows_.all.device;
  while (!batch.descents.empty()) {
    const auto count = static_cast<int64_t>(batch.descents.size());
    int64_t work = 0;  // of an epoch
    for (int64_t k = 0; k < count; ++k) {
      const DescentArgs<T>& q = batch.descents[k];
      work += q.quadratic ? q.size * q.size : 2 * q.rows.args.n * (q.size + 2);
    }
    const int64_t most =
        std::max<int64_t>(1, most_device_work(device) / std::max<int64_t>(1, work));
    for (int64_t k = 0; k < count; ++k)
      batch.descents[k].epochs =
          std::min(most, batch.at(batch.who[k]).last - states_.epoch[batch.who[k]]);
    device.descend_each(count, batch.descents.data());
    int64_t kept = 0;
    for (int64_t k = 0; k < count; ++k) {
      const int64_t i = batch.who[k];
      DescentArgs<T>& q = batch.descents[k];
      auto& progress = batch.at(i);
      states_.lr[i] = q.lr;
      if (states_.epoch[i] == progress.last && !progress.may_end) extend(i, batch);
      if (progress.may_end || states_.epoch[i] == progress.last) continue;
      if (q.losses) {
        const int64_t first = progress.target - options_.epochs;
        q.losses = states_.losses.data() + i * options_.records +
                   (states_.epoch[i] / q.every - first / q.every);
      }
      batch.descents[kept] = q;
      batch.who[kept++] = i;
    }
    batch.descents.resize(static_cast<size_t>(kept));
    batch.who.resize(static_cast<size_t>(kept));
    if (budget.spent(host_work(device, work * most / 4)) && kept > 0) return false;
  }
  return true;
}

// More epochs on the device, as far as patience goes.
template <class T>
void Many<T>::extend(int64_t i, Batch& batch) {
  auto& progress = batch.at(i);
  const int64_t begun = progress.target - options_.epochs, done = progress.last;
  if (done >= progress.target || done > begun + least_patience) return;
  progress.last = progress.target;
  if (!known_[i] || options_.tol[i] < 0) return;
  Quadratic<T>& quadratic = batch.one.quadratic;
  find_quadratic(i, quadratic);
  Problem<T> problem = rows_.size_of(i);
  problem.scaling = scaling_of(i);
  const int64_t most = patience_of(quadratic, problem, options_of(i), options_.lr[i],
                                   batch.started.data() + (i - batch.begin) * rows_.all.size());
  progress.impatient = most < options_.epochs;
  if (progress.impatient) progress.last = begun + most;
}

// From where the device has left a problem to its end, but for a loss that is due; true once it is
// there.
template <class T>
bool Many<T>::finish(int64_t i, Batch& batch, InProgress& one, Budget& budget) {
  if (options_.skip[i]) return true;
  const auto& progress = batch.at(i);
  if (one.stage == InProgress::Stage::none) {
    if (progress.on_device && !progress.may_end && loss_is_known(i, batch)) {
      const bool going = (progress.moved || options_.tol[i] < 0) && !progress.impatient;
      states_.outcome[i] = going ? Outcome::max_epochs : Outcome::stalled;
      states_.loss[i] = progress.loss;
      states_.r2_lost[i] = r2_lost(i, one);
      return true;
    }
    begin_descent(i, batch, one);
  }
  const Outcome outcome = one.descent.advance(budget);
  if (outcome == Outcome::running) return false;
  states_.outcome[i] = outcome;
  keep_descent(i, one);
  batch.loss_due[batch.place(i)] = one.descent.loss_below_noise();
  return true;
}

// Whether the loss after the last epoch is above the noise floor; otherwise it is computed again
// from the rows.
template <class T>
bool Many<T>::loss_is_known(int64_t i, const Batch& batch) const {
  if (from_rows[i]) return true;
  const T loss = batch.at(i).loss;
  if (!(loss >= std::numeric_limits<T>::min())) return false;
  constexpr double clearly = 1.01;  // the loss is rounded
  const Problem<T> p = rows_.size_of(i);
  const double* const packed = &packed_[i * packed_size_];
  LinearSums sums;
  sums.sample_weight = Quadratic<T>::tail(p.size() / p.t, p.t, packed).sample_weight();
  const double squares = p.scale(p.n, sums).divisor * loss;
  return squares > clearly * Quadratic<T>::noise_floor(p.size() / p.t, p.t, packed,
                                                       states_.params.data() + i * p.size());
}

// Descent takes over at the state the problem has.
template <class T>
void Many<T>::begin_descent(int64_t i, const Batch& batch, InProgress& one) {
  const auto& progress = batch.at(i);
  const int64_t p = rows_.all.size();
  state_of(i, one.state);
  one.begun = states_.epoch[i];
  const T* started = params_of(i);
  if (progress.on_device) {
    one.begun = progress.target - options_.epochs;
    started = batch.started.data() + (i - batch.begin) * p;
    one.state.lr = states_.lr[i];
    one.state.moved = progress.moved != 0;
    const T* const previous = batch.previous.data() + (i - batch.begin) * p;
    if (one.state.epoch > one.begun) one.state.previous.assign(previous, previous + p);
  } else {
    choose_rates(i, one.quadratic);
  }
  if (from_rows[i]) {
    one.problem = rows_.gathered(i, one.gathered);
  } else {
    one.problem = rows_.size_of(i);
  }
  one.problem.scaling = scaling_of(i);
  if (known_[i]) find_quadratic(i, one.quadratic);
  one.descent.restart(one.problem, options_of(i), one.state, one.begun + options_.epochs,
                      known_[i] ? &one.quadratic : nullptr, from_rows[i]);
  one.descent.set_start(one.begun, {started, started + p});
  if (options_.schedule)
    one.descent.set_schedule(options_.first_epoch, options_.lr);
  else
    one.descent.set_constant_lr(options_.lr[i]);
  one.stage = InProgress::Stage::descent;
}

// The R^2 that the state of a problem loses.
template <class T>
double Many<T>::r2_lost(int64_t i, InProgress& one) const {
  if (!known_[i] || options_.tol[i] < 0 || options_.common.sgd.maximize)
    return std::numeric_limits<double>::quiet_NaN();
  find_quadratic(i, one.quadratic);
  const DescentOptions options = options_of(i);
  Problem<T> problem = rows_.size_of(i);
  problem.scaling = scaling_of(i);
  Goal<T> goal;
  goal.assign(one.quadratic, problem.objective(one.quadratic.sample_weight(), options.sgd),
              options.tol, problem.returned());
  return goal.known() ? goal.r2_lost(states_.params.data() + i * problem.size())
                      : std::numeric_limits<double>::quiet_NaN();
}

// ---- Closed form ----

template <class T>
bool Many<T>::solve(const ExactOptions& options, double seconds) {
  const Problem<T>& p = rows_.all;
  if (options.covariance != Covariance::none && inferences.flaw.empty())
    inferences.reset(rows_.count, p.size() / p.t, p.t);
  return in_batches(seconds, [&](Batch& batch, Budget& budget) {
    return one_by_one(batch, budget,
                      [&](int64_t i) { return solve_one(i, options, batch, budget); });
  });
}

template <class T>
bool Many<T>::solve_one(int64_t i, ExactOptions options, Batch& batch, Budget& budget) {
  using Stage = typename InProgress::Stage;
  options.weight_decay = options_.weight_decay[i];
  InProgress& one = batch.one;
  bool infers = options.covariance != Covariance::none;
  if (infers && (options_.skip[i] || options.weight_decay != 0)) {
    const Problem<T> rows = rows_.gathered(i, one.gathered);
    inferences.df_resid[i] = rows_that_count(rows) - rows.size() / rows.t;
    infers = false;
  }
  if (!infers) options.covariance = Covariance::none;
  if (options_.skip[i]) return true;
  if (one.stage == Stage::none) {
    if (solve_moments(i, options, batch, budget)) {
      if (!infers) return true;
      begin_inference(i, options, one, budget);
    } else {
      one.problem = open_rows(i, one, budget);
      one.exact.emplace(one.problem, options);
      one.stage = Stage::opened;
    }
  }
  if (one.stage == Stage::opened) {
    if (!one.exact->advance(budget)) return false;
    const auto solution = one.exact->solve(infers ? &one.inference.solved : nullptr);
    one.exact.reset();
    keep_solution(i, solution.params, solution.rank);
    states_.loss[i] = loss_of_rows(i, budget);
    if (!infers) return true;
    begin_inference(i, options, one, budget);
  }
  if (one.inference.needs_rows() && !one.inference.run(budget)) return false;
  one.inference.write(inferences.at(i));
  return true;
}

template <class T>
void Many<T>::begin_inference(int64_t i, const ExactOptions& options, InProgress& one,
                              Budget& budget) {
  one.inference.begin(options.covariance);
  if (one.inference.needs_rows()) {
    if (one.stage == InProgress::Stage::none) one.problem = open_rows(i, one, budget);
    one.inference.begin_rows(one.problem);
  }
  one.stage = InProgress::Stage::inference;
}

template <class T>
bool Many<T>::solve_moments(int64_t i, const ExactOptions& options, Batch& batch, Budget& budget) {
  if (from_rows[i]) return false;
  NormalEquations<T>& normal = batch.one.normal;
  const Problem<T> size = rows_.size_of(i);
  const int64_t p = size.size() / size.t;
  const double* const packed = &packed_[i * packed_size_];
  budget.spent(p * p * (p + size.t));
  if (!normal.solve(size, packed, options)) return false;
  keep_solution(i, normal.params(), p);
  if (options.covariance != Covariance::none)
    normal.describe(size, packed, batch.one.inference.solved);
  states_.loss[i] = normal.loss_known() ? normal.loss() : loss_of_rows(i, budget);
  return true;
}

template <class T>
void Many<T>::keep_solution(int64_t i, const std::vector<T>& params, int64_t rank_of_rows) {
  std::copy(params.begin(), params.end(), params_of(i));
  rank[i] = rank_of_rows;
  states_.outcome[i] = Outcome::converged;
}

// ---- States ----

template <class T>
const ManyStates<T>& Many<T>::states() {
  for (const auto& batch : queue_.paused)
    if (batch->one.stage == InProgress::Stage::descent) keep_descent(batch->next, batch->one);
  return states_;
}

template <class T>
std::vector<T> Many<T>::returned_params() const {
  std::vector<T> params = states_.params;
  const Problem<T>& p = rows_.all;
  for (int64_t i = 0; i < rows_.count; ++i)
    if (const double* scaling = scaling_of(i))
      from_scaled(scaling, p.d, p.t, p.fit_intercept, params.data() + i * p.size());
  return params;
}

// The work of one pass over the rows.
template <class T>
int64_t Many<T>::work_of_rows(int64_t i) const {
  const Problem<T> p = rows_.size_of(i);
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
void Many<T>::keep_descent(int64_t i, InProgress& one) {
  const DescentState<T>& state = one.descent.state();
  const int64_t p = rows_.all.size();
  std::copy(state.params.begin(), state.params.end(), params_of(i));
  if (!states_.velocity.empty())
    std::copy(state.velocity.begin(), state.velocity.end(), states_.velocity.begin() + i * p);
  states_.moving[i] = !state.velocity.empty();
  states_.epoch[i] = state.epoch;
  states_.first_loss[i] = state.first_loss;
  states_.last_loss[i] = state.last_loss;
  states_.lr[i] = state.lr;
  states_.loss[i] = one.descent.loss();
  states_.r2_lost[i] = one.descent.r2_lost();
  if (options_.records == 0) return;
  T* const losses = states_.losses.data() + i * options_.records;
  const DescentHistory<T>& later = one.descent.history();
  const int64_t every = options_.common.history;
  const int64_t before = one.begun / every, recorded = one.state.epoch / every - before;
  std::copy(later.loss.begin(), later.loss.end(), losses + recorded);
  std::fill(losses + (state.epoch / every - before), losses + options_.records,
            std::numeric_limits<T>::quiet_NaN());
}

template <class T>
T Many<T>::loss_of_rows(int64_t i, Budget& budget) const {
  std::vector<T> gathered;
  DescentState<T> state;
  state_of(i, state);
  Problem<T> problem = rows_.gathered(i, gathered);
  problem.scaling = scaling_of(i);
  Descent<T> none(problem, DescentOptions{}, state, 0);
  none.set_constant_lr(0);
  budget.spent(work_of_rows(i));
  while (none.advance(1.0) == Outcome::running) continue;
  return none.loss();
}

template class Many<float>;
template class Many<double>;

}  // namespace gdcore
