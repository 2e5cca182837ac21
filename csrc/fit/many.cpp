#include "fit/many_batches.hpp"
#include "fit/scaling.hpp"

namespace gdcore {

template <class T>
Many<T>::Many(ManyRows<T> rows, const std::vector<uint8_t>& gram, bool judged, bool scaled)
    : rows_(std::move(rows)), judged_(judged), scaled_(scaled) {
  const auto count = static_cast<size_t>(rows_.count);
  const Problem<T>& all = rows_.all;
  curvature.assign(count, 0.0);
  error.assign(count, 0.0);
  steepest.assign(count, 0.0);
  rank.assign(count, 0);
  unsolved.assign(count, 0);
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
Many<T>::~Many() {}  // Batch is complete here

template <class T>
Problem<T> Many<T>::open_rows(int64_t i, InProgress& one, Budget& budget) const {
  Problem<T> problem = rows_.gathered(i, one.gathered);
  if (rows_.anywhere()) budget.spent(work_of_rows(i));
  problem.scaling = scaling_of(i);
  return problem;
}

template <class T>
const double* Many<T>::scaling_of(int64_t i) const {
  return scaled_ && known_[i] ? &scalings_[i * (2 * rows_.all.d + rows_.all.t)] : nullptr;
}

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

#define GDCORE_INSTANTIATE(T)                                                   \
  template Many<T>::Many(ManyRows<T>, const std::vector<uint8_t>&, bool, bool); \
  template Many<T>::~Many();                                                    \
  template Problem<T> Many<T>::open_rows(int64_t, InProgress&, Budget&) const;  \
  template const double* Many<T>::scaling_of(int64_t) const;                    \
  template const ManyStates<T>& Many<T>::states();                              \
  template std::vector<T> Many<T>::returned_params() const;                     \
  template int64_t Many<T>::work_of_rows(int64_t) const;                        \
  template void Many<T>::state_of(int64_t, DescentState<T>&) const;             \
  template void Many<T>::keep_descent(int64_t, InProgress&);                    \
  template T Many<T>::loss_of_rows(int64_t, Budget&) const;
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore
