// Many problems at work: a batch of them is one thread's, and each call ends in time.
#pragma once

#include <algorithm>
#include <atomic>
#include <optional>

#include "fit/many.hpp"
#include "fp_env.hpp"
#include "host.hpp"

namespace gdcore {

constexpr int64_t min_work_per_problem = 1 << 10;  // fma
// What a problem takes beside its rows, in fma. Measured: 0.5 to 8 us for 1 to 16 features. A row
// takes 15 ns (4 features, second moments in lanes) and more: 64 fma for each number.
constexpr int64_t least_work(int64_t d, int64_t t) { return 4096 + 512 * (d + 1) * (d + 1) * t; }
constexpr double endless_seconds = 1e6;

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
  int64_t curved = 0;          // those before it have had their curvature looked for
  int64_t asked = 0;           // those before it have been asked for what the host can do beside it
  InProgress one;

  std::vector<uint8_t> summed;    // a batch made its moments
  std::vector<uint8_t> ended;     // beside the device
  std::vector<uint8_t> loss_due;  // the rows tell the loss at the end
  std::vector<ProblemRows<T>> rows;
  std::vector<Moments> moments;
  std::vector<CurvatureArgs> hessians;
  std::vector<double*> packed;
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
    begin = next = counted = curved = asked = first;
    end = last;
    collected = false;
    one.stage = InProgress::Stage::none;
    for (auto* flags : {&summed, &ended, &loss_due}) flags->assign(place(end), 0);
    progress.clear();
  }
};

// work(batch, budget) on threads until each has returned true; false if that needs another call. A
// device with its own memory is asked by one thread.
template <class T>
template <class Work>
bool Many<T>::in_batches(double seconds, Work&& work) {
  const Problem<T>& p = rows_.all;
  const int64_t rows = rows_.starts.empty() ? p.n * rows_.count : p.n;
  const int64_t batches = (rows_.count + batch_size() - 1) / batch_size();
  const Budget slice(seconds);
  std::atomic<bool> over{false};  // one thread may run for others that do not come
  auto run = [&] {
    if (over) return;
    const FpEnv env;
    Budget budget = slice;
    while (auto batch = pop()) {
      const bool finished = work(*batch, budget);
      push(std::move(batch), finished);
      if (finished && !budget.spent(min_work_per_problem)) continue;
      over = true;
      return;
    }
  };
  if (p.device->of_host)
    host::on_threads(batches, rows * (p.d + 1) * p.t * 64 + rows_.count * least_work(p.d, p.t),
                     run);
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

}  // namespace gdcore
