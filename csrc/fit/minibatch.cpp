// The part of Descent that steps after batches of rows, and the passes that are fed in pieces.
#include <algorithm>

#include "fit/descent.hpp"
#include "fp_env.hpp"

namespace gdcore {
namespace {

void accumulate(const LinearSums& from, LinearSums& to) {
  to.squares += from.squares;
  to.sample_weight += from.sample_weight;
  for (size_t j = 0; j < from.weights.size(); ++j) to.weights[j] += from.weights[j];
  for (size_t u = 0; u < from.intercept.size(); ++u) to.intercept[u] += from.intercept[u];
}

}  // namespace

template <class T>
Outcome Descent<T>::advance_batches(Budget& budget) {
  while (true) {
    const Outcome due = batches_due();
    if (due != Outcome::running) return evaluate(budget, due);
    if (!lr_known()) return Outcome::running;
    if (!run_batches(problem_, options_.seed, state_.step, budget)) return Outcome::running;
    if (batch_diverged_) return diverge(false);
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

// Batches of consecutive positions, from `step` on; true once all are done or one diverged.
template <class T>
bool Descent<T>::run_batches(const Problem<T>& problem, uint64_t seed, int64_t& step,
                             Budget& budget) {
  const int64_t n = problem.n, batch = options_.batch_size;
  Permutation order;
  if (options_.shuffle) order = Permutation(n, seed, static_cast<uint64_t>(state_.epoch));
  Batches<T> batches(problem, options_.shuffle ? &order : nullptr, batch, batch_memory_);
  while (step * batch < n) {
    const int64_t first = step * batch;
    const LinearArgs<T> args = batches.at(first, std::min(batch, n - first), state_.params.data());
    if (!pass_.run(*problem.device, args, budget)) return false;
    const T loss = problem.close(args.n, pass_.sums, gradient_.data());
    batch_diverged_ = !std::isfinite(loss) || !std::isfinite(gradient_norm());
    if (batch_diverged_) return true;
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
  batch_diverged_ = false;
  if (options_.batch_size > 0 && ending_ == Outcome::running) ending_ = batches_due();
  return ending_ != Outcome::running;
}

template <class T>
bool Descent<T>::feed(const Problem<T>& piece, uint64_t seed, double seconds) {
  FpEnv env;
  Budget budget(seconds);
  bool through = batch_diverged_;
  if (!through && options_.batch_size > 0 && ending_ == Outcome::running) {
    through = run_batches(piece, seed, piece_step_, budget);
  } else if (!through) {
    const LinearArgs<T> args = piece.args(state_.params.data());
    through = piece_.run(*piece.device, args.n, row_work(*piece.device, args), budget,
                         [&](int64_t segment0, int64_t segment1) {
                           piece.device->linear(args, segment0, segment1, pass_.sums);
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
  if (batch_diverged_) return diverge(false);
  ending_ = end_batches(fed_);
  return Outcome::running;
}

#define GDCORE_INSTANTIATE(T)                                          \
  template Outcome Descent<T>::advance_batches(Budget&);               \
  template bool Descent<T>::begin_pass();                              \
  template bool Descent<T>::feed(const Problem<T>&, uint64_t, double); \
  template Outcome Descent<T>::end_pass();
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore
