#include "fit/many_batches.hpp"

namespace gdcore {

namespace {

// Work of one call of the device: some milliseconds of one thread.
template <class T>
int64_t most_device_work(const Device<T>& device) {
  return 32 * Budget::unit * speed_of(device);
}

}  // namespace

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

#define GDCORE_INSTANTIATE(T)                               \
  template void Many<T>::start(ManyOptions, ManyStates<T>); \
  template bool Many<T>::advance(double);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore
