// Passes over the rows of a problem that can pause.
#pragma once

#include <algorithm>
#include <chrono>
#include <utility>

#include "fit/problem.hpp"

namespace gdcore {

// Says when a bounded block of work is over; looks at the clock only now and then.
class Budget {
 public:
  explicit Budget(double seconds)
      : deadline_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                     std::chrono::duration<double>(seconds))) {}

  bool spent(int64_t work) {
    work_ += work;
    if (work_ >= unit) {
      work_ = 0;
      spent_ = Clock::now() >= deadline_;
    }
    return spent_;
  }

  static constexpr int64_t unit = 1 << 20;  // fma: well below a millisecond

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point deadline_;
  int64_t work_ = 0;
  bool spent_ = false;
};

// How many times as much as a thread of the host a device does in the same time.
template <class T>
int64_t speed_of(const Device<T>& device) {
  constexpr int64_t problems = 256;  // that are as much work for the host as a block for the device
  return device.of_host ? 1 : std::max<int64_t>(1, device.block / problems);
}

// Work of the device in that of a thread of the host.
template <class T>
int64_t host_work(const Device<T>& device, int64_t work) {
  return device.of_host ? work : ceil_div(work, speed_of(device));
}

// The work of a row in a pass: reading it takes longer than its fma.
template <class T>
int64_t row_work(const Device<T>& device, const LinearArgs<T>& args) {
  return host_work(device, 8 * (args.d + 4) * args.t);
}

// The work of a call that sums rows, besides theirs.
template <class T>
int64_t call_work(const Device<T>& device) {
  return device.of_host ? 128 : 1 << 14;
}

// Work over the row segments of a problem, in slices, so that it can stop and continue.
class Slices {
 public:
  // work(segment0, segment1) for all segments of n rows; true when done, and the next call starts
  // again.
  template <class T, class Work>
  bool run(const Device<T>& device, int64_t n, int64_t row_work, Budget& budget, Work&& work) {
    constexpr int64_t length = L<T>;
    const int64_t segments = ceil_div(n, length);
    constexpr int64_t fewest = 16;  // slices are multiples: up to 16 threads share one evenly
    // Some milliseconds: where other processes hold a core, threads wait for each other after
    // every slice.
    constexpr int64_t work_of_slice = 128 * Budget::unit;
    const int64_t slice =
        fewest * std::max<int64_t>(1, work_of_slice / (row_work * length) / fewest);
    while (segment_ < segments) {
      const int64_t end = std::min(segments, segment_ + slice);
      work(segment_, end);
      segment_ = end;
      const int64_t rows = std::min(n, slice * length);
      if (budget.spent(rows * row_work + call_work(device)) && segment_ < segments) return false;
    }
    segment_ = 0;
    return true;
  }

  bool fresh() const { return segment_ == 0; }
  void restart() { segment_ = 0; }

 private:
  int64_t segment_ = 0;
};

// The sums of one set of rows.
template <class T>
class Pass {
 public:
  LinearSums sums;

  // True when all segments are in `sums`; the next call then starts again.
  bool run(const Device<T>& device, const LinearArgs<T>& args, Budget& budget) {
    if (slices_.fresh()) sums.reset(args.d, args.t);
    const auto add = [&](int64_t segment0, int64_t segment1) {
      device.linear(args, segment0, segment1, sums);
    };
    if (!slices_.run(device, args.n, row_work(device, args), budget, add)) return false;
    sums.close();
    return true;
  }

  void restart() { slices_.restart(); }

 private:
  Slices slices_;
};

// The second moments of all rows, added segment by segment to those of other rows. They stay open.
template <class T>
class MomentsPass {
 public:
  MomentsPass() = default;
  explicit MomentsPass(const Problem<T>& problem) { restart(problem); }
  MomentsPass(const Problem<T>& problem, Moments start)
      : moments(std::move(start)), problem_(problem) {}
  Moments moments;

  void restart(const Problem<T>& problem) {
    problem_ = problem;
    slices_.restart();
    moments.reset(problem.d, problem.t);
  }
  bool run(Budget& budget) {
    const int64_t p = problem_.d + 1;
    const Device<T>& device = *problem_.device;
    const int64_t row_work = p * (p + 2 * problem_.t) / 2 * (sizeof(T) == 4 ? 1 : 8);
    return slices_.run(device, problem_.n, host_work(device, row_work), budget,
                       [&](int64_t segment0, int64_t segment1) {
                         device.moments(problem_.args(nullptr), segment0, segment1, moments);
                       });
  }

 private:
  Problem<T> problem_{};
  Slices slices_;
};

}  // namespace gdcore
