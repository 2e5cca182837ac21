// One fit for each window of rows.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "fit/window_fit.hpp"

namespace gdcore {

// Windows are fitted in runs, whose first window's rows are all summed, whatever the data: the bits
// of a run depend on its own rows alone, and threads take one each.
template <class T>
class Rolling {
 public:
  // Neither the first nor the last rows of the windows ever fall; each window has a row.
  Rolling(RollingTask<T> task, std::vector<Window> windows);

  // True when all windows are done, or one is out of range; otherwise call again.
  bool advance(double seconds);

  // The windows done, up to the first that is not: at the end all, or those before the first window
  // out of range.
  int64_t done() const;
  const RollingResults<T>& results() const { return results_; }
  int64_t parameters() const { return task_.problem.size(); }
  int64_t recomputed() const;
  bool out_of_range() const { return first_bad_ < count(); }

 private:
  struct Worker {
    explicit Worker(const RollingTask<T>& task) : fit(task) {}
    WindowFit<T> fit;
    int64_t next = 0, end = 0;  // windows left of its run
    bool slides = false;
  };

  int64_t count() const { return static_cast<int64_t>(windows_.size()); }
  void plan_runs();
  int64_t work() const;
  Worker* pop();
  bool take_run(Worker& worker);
  bool finish_runs(Worker& worker, Budget& budget);
  void stop_before(int64_t window);

  RollingTask<T> task_;
  std::vector<Window> windows_;
  std::vector<int64_t> runs_;  // first windows, then the number of windows
  std::atomic<int64_t> next_run_{0}, first_bad_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> paused_;  // in the middle of a run
  RollingResults<T> results_;
  std::vector<uint8_t> done_;
};

}  // namespace gdcore
