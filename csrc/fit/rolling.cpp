#include "fit/rolling.hpp"

#include <algorithm>
#include <atomic>

#include "fp_env.hpp"
#include "host.hpp"

namespace gdcore {

template <class T>
Rolling<T>::Rolling(RollingTask<T> task, std::vector<Window> windows)
    : task_(std::move(task)),
      windows_(std::move(windows)),
      first_bad_(count()),
      results_(count(), task_.problem.size() / task_.problem.t, task_.problem.t, task_.infers()),
      done_(windows_.size()) {
  plan_runs();
}

// Sums computed again take at most as many rows as came and went since, so that they at most double
// the work. A window that shares no row with the last one begins a run.
template <class T>
void Rolling<T>::plan_runs() {
  int64_t moved = 0;
  for (int64_t i = 0; i < count(); ++i) {
    const Window window = windows_[i];
    if (i > 0) moved += window.begin - windows_[i - 1].begin + window.end - windows_[i - 1].end;
    if (i > 0 && moved <= window.end - window.begin) continue;
    runs_.push_back(i);
    moved = 0;
  }
  runs_.push_back(count());
}

template <class T>
int64_t Rolling<T>::work() const {
  const int64_t p = task_.problem.d + 1, rows = windows_.empty() ? 0 : windows_.back().end;
  return 128 * (p * p + 4) * (count() * (p + task_.problem.t) + rows);
}

template <class T>
bool Rolling<T>::advance(double seconds) {
  const Budget slice(seconds);
  std::atomic<bool> over{false};  // one thread may run for others that do not come
  auto run = [&] {
    if (over) return;
    const FpEnv env;
    Budget budget = slice;
    while (Worker* const worker = pop()) {
      if (finish_runs(*worker, budget)) continue;
      const std::lock_guard lock(mutex_);
      paused_.push_back(worker);
      over = true;
      return;
    }
  };
  const int64_t runs = static_cast<int64_t>(runs_.size()) - 1;
  if (task_.problem.device->of_host)
    host::on_threads(runs, work(), run);
  else
    run();
  return next_run_ >= runs && paused_.empty();
}

// A worker with a run, or null if there is none.
template <class T>
typename Rolling<T>::Worker* Rolling<T>::pop() {
  const std::lock_guard lock(mutex_);
  if (!paused_.empty()) {
    Worker* const worker = paused_.back();
    paused_.pop_back();
    return worker;
  }
  if (next_run_ + 1 >= static_cast<int64_t>(runs_.size())) return nullptr;
  workers_.push_back(std::make_unique<Worker>(task_));
  return take_run(*workers_.back()) ? workers_.back().get() : nullptr;
}

template <class T>
bool Rolling<T>::take_run(Worker& worker) {
  const int64_t run = next_run_++;
  if (run + 1 >= static_cast<int64_t>(runs_.size())) return false;
  worker.next = runs_[run];
  worker.end = runs_[run + 1];
  worker.slides = false;
  return true;
}

// True when the worker's run is done, and no other is left.
template <class T>
bool Rolling<T>::finish_runs(Worker& worker, Budget& budget) {
  while (worker.next < worker.end || take_run(worker)) {
    const int64_t i = worker.next;
    if (i >= first_bad_) {
      worker.next = worker.end;
      continue;
    }
    if (!worker.fit.run(windows_[i], worker.slides, i, results_, budget)) return false;
    if (worker.fit.out_of_range()) {
      stop_before(i);
      continue;
    }
    done_[i] = 1;
    ++worker.next;
    worker.slides = true;
    if (budget.spent(Budget::unit)) return false;
  }
  return true;
}

template <class T>
void Rolling<T>::stop_before(int64_t window) {
  int64_t first = first_bad_;
  while (window < first && !first_bad_.compare_exchange_weak(first, window)) continue;
}

template <class T>
int64_t Rolling<T>::done() const {
  return std::find(done_.begin(), done_.end(), 0) - done_.begin();
}

template <class T>
int64_t Rolling<T>::recomputed() const {
  int64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->fit.recomputed();
  return sum;
}

template class Rolling<float>;
template class Rolling<double>;

}  // namespace gdcore
