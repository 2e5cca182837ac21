// Gradient descent on one problem: a state that is a plain value, advanced by bounded amounts of
// work.
#pragma once

#include <vector>

#include "descend.hpp"
#include "fit/batches.hpp"
#include "fit/outlook.hpp"
#include "fit/passes.hpp"
#include "fit/state.hpp"

namespace gdcore {

// Epochs that a descent may take before it counts as stalled: twice as many as its spectrum
// predicts and some more; without limit if it predicts none.
template <class T>
int64_t patience_of(const Quadratic<T>& quadratic, const Problem<T>& problem,
                    const DescentOptions& options, double lr, const T* start);
constexpr int64_t least_patience = 256;

// The rates of momentum="auto", see Outlook::heavy_ball.
template <class T>
typename Outlook<T>::Rates auto_rates(const Quadratic<T>& quadratic, const Problem<T>& problem,
                                      const DescentOptions& options, const T* start, int64_t epochs,
                                      const typename Outlook<T>::Rates& kept);

template <class T>
class Descent {
 public:
  Descent() = default;
  Descent(const Problem<T>& problem, const DescentOptions& options, const DescentState<T>& state,
          int64_t target_epoch, const Quadratic<T>* quadratic = nullptr, bool from_rows = false) {
    restart(problem, options, state, target_epoch, quadratic, from_rows);
  }
  // With a quadratic the descent ends where it has arrived, see Goal; without one, tol is ignored.
  // Unless `from_rows`, the quadratic also replaces the rows in full-batch descent: they are not
  // read. Memory of an earlier descent is used again.
  void restart(const Problem<T>& problem, const DescentOptions& options,
               const DescentState<T>& state, int64_t target_epoch, const Quadratic<T>* quadratic,
               bool from_rows);

  // Where this fit began, if the state is a later one: patience counts from there.
  void set_start(int64_t epoch, std::vector<T> params);

  // Learning rates of epochs first, first + 1, ...; a constant one holds for all.
  void set_constant_lr(double lr);
  void set_schedule(int64_t first, std::vector<double> lrs);

  // Works for about `seconds`, less if it ends or the schedule has no rate for the next epoch.
  Outcome advance(double seconds);
  Outcome advance(Budget& budget);

  // In place of `advance`, where the rows come in pieces that begin on whole segments, and on whole
  // batches: each pass over them begins, is fed, and ends. The problem's own rows are not read.
  // begin_pass returns true if the pass is for the loss at the end: any whole segments will do.
  bool begin_pass();
  // True once all of the piece is used. Its rows are shuffled by this seed, if at all.
  bool feed(const Problem<T>& piece, uint64_t seed, double seconds);
  Outcome end_pass();

  const Problem<T>& problem() const { return problem_; }
  const DescentState<T>& state() const { return state_; }
  const DescentHistory<T>& history() const { return history_; }
  // R^2 lost at the parameters; NaN if it is not known, or there is no tol.
  double r2_lost();
  T loss() const { return loss_; }         // at the parameters, once advance has ended
  double lr() const { return state_.lr; }  // last used
  // The loss at the end is below what the quadratic can tell; the rows can.
  bool loss_below_noise() const {
    return on_quadratic_ && !(pass_.sums.squares > quadratic_.noise_floor(state_.params.data()));
  }
  // The most that a loss below the noise can be.
  T loss_of_noise() const {
    LinearSums sums = pass_.sums;
    if (on_quadratic_) sums.squares = quadratic_.noise_floor(state_.params.data());
    return problem_.close(problem_.n, sums, nullptr);
  }

 private:
  Outcome advance_full(Budget& budget);
  Outcome advance_batches(Budget& budget);
  Outcome evaluate(Budget& budget, Outcome outcome);
  Outcome evaluated(int64_t rows);
  Outcome take_step(int64_t rows);
  Outcome batches_due();
  bool run_batches(const Problem<T>& problem, uint64_t seed, int64_t& step, Budget& budget);
  Outcome end_batches(int64_t rows);
  bool lr_known() const;
  bool sum_rows(Budget& budget);
  bool epochs_are_short() const;
  int64_t epoch_work() const;
  void run_on_device(Budget& budget);
  int64_t reserve_history(int64_t epochs, DescentArgs<T>& args);
  void keep_history(int64_t before);
  // What ends it early: arriving, or standing still, which a descent without a tol never does.
  EndRules<OneNumber<T>> end_rules() const {
    return {options_.tol >= 0 ? std::max(norm_bound_, 0.0) : -1.0, options_.stop_on_equal_loss};
  }
  Outcome ended(T loss);
  void update();
  void end_epoch(T loss);
  Outcome arrival(double norm);
  Outcome out_of_epochs() const;
  void limit_epochs();
  const Goal<T>& goal();
  Objective objective() const {
    return problem_.objective(quadratic_.sample_weight(), options_.sgd);
  }
  // Parameters that weight decay reaches: all, or the weights.
  int64_t decayed_size() const {
    return options_.sgd.decay_intercept ? problem_.size() : problem_.d * problem_.t;
  }
  Outcome diverge(bool evaluated);
  void undo_step();
  double squared_norm() const {
    return norm_squares(problem_.size(), decayed_size(), options_.sgd, gradient_.data(),
                        state_.params.data());
  }
  double gradient_norm() const;
  bool stuck() const;

  Problem<T> problem_{};
  DescentOptions options_;
  DescentState<T> state_;
  DescentHistory<T> history_;
  int64_t target_ = 0;
  std::vector<double> lrs_;
  int64_t first_lr_ = 0;
  bool constant_lr_ = true;

  bool on_quadratic_ = false, judged_ = false;
  Quadratic<T> quadratic_;
  Goal<T> goal_;
  bool goal_known_ = false;
  double norm_bound_ = -1.0;  // see Goal; below 0: the descent does not end by tol
  LinearSums judge_sums_;     // of the quadratic, where the descent reads rows
  int64_t first_epoch_ = 0;   // of this fit
  std::vector<T> start_;
  bool patience_known_ = false, impatient_ = false;  // impatient: the target was brought forward
  Pass<T> pass_;
  BatchMemory<T> batch_memory_;
  bool on_device_ = false;  // ordinary epochs are the device's, see Device::descend_each
  std::vector<T> gradient_, previous_velocity_;
  Outcome ending_ = Outcome::running;  // how it ends, once the loss there is evaluated
  Slices piece_;                       // what is done of the piece being fed
  int64_t piece_step_ = 0, fed_ = 0;   // its batches done; rows of this pass
  bool batch_diverged_ = false;        // in this pass
  T loss_ = std::numeric_limits<T>::quiet_NaN();
};

}  // namespace gdcore
