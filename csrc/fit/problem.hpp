// One least-squares problem as the fitting algorithms see it, and a pass over its rows that can
// pause.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

#include "device.hpp"
#include "fit/goal.hpp"
#include "fit/quadratic.hpp"

namespace gdcore {

// Parameters are one array: weights (d,t), then intercept (t) if there is one.
template <class T>
struct Problem {
  int64_t n, d, t;
  Matrix<const T> X, y, offset;   // offset.data may be null
  Vector<const T> sample_weight;  // may be null
  bool fit_intercept;
  Reduction reduction;
  const double* scaling = nullptr;  // see LinearArgs: parameters are those of standardised columns

  int64_t size() const { return (d + (fit_intercept ? 1 : 0)) * t; }

  // The problem of the rows [first, first + count).
  Problem rows(int64_t first, int64_t count) const {
    Problem part = *this;
    part.n = count;
    part.X.data += first * X.rs;
    part.y.data += first * y.rs;
    if (offset.data) part.offset.data += first * offset.rs;
    if (sample_weight.data) part.sample_weight.data += first * sample_weight.stride;
    return part;
  }

  LinearArgs<T> args(const T* params) const {
    LinearArgs<T> a{n, d, t, X, y, offset, sample_weight, {params, t, 1}, {nullptr, 0}};
    if (fit_intercept) a.intercept = {params + d * t, 1};
    a.scaling = scaling;
    return a;
  }

  // Elements, or their weights, behind sums over `rows` rows.
  double count(int64_t rows, const LinearSums& sums) const {
    return (sample_weight.data ? sums.sample_weight : static_cast<double>(rows)) *
           static_cast<double>(t);
  }

  // Of rows whose weights sum to this: their number, if they have none.
  Objective objective(double total_weight, const SgdOptions& sgd) const {
    const int64_t p = d + (fit_intercept ? 1 : 0);
    return {scale_of(reduction, total_weight * static_cast<double>(t)), sgd.weight_decay,
            sgd.decay_intercept ? p : d};
  }
  Returned returned() const { return {d, t, fit_intercept, scaling}; }

  // Loss, and the gradient of all parameters if it is not null. Rows of no weight have neither.
  T close(int64_t rows, const LinearSums& sums, T* gradient) const {
    const double elements = count(rows, sums);
    const Scale scale = elements == 0 ? Scale{1.0, 0.0} : scale_of(reduction, elements);
    if (gradient) {
      for (double sum : sums.weights) *gradient++ = static_cast<T>(scale.gradient * sum);
      if (fit_intercept)
        for (double sum : sums.intercept) *gradient++ = static_cast<T>(scale.gradient * sum);
    }
    return static_cast<T>(sums.squares / scale.divisor);
  }
};

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

// Of a pass over the rows: reading them takes longer than their fma.
template <class T>
int64_t row_work(const LinearArgs<T>& args) {
  return 8 * (args.d + 4) * args.t;
}

// Work over the row chunks of a problem, in slices, so that it can stop and go on.
class Slices {
 public:
  // work(chunk0, chunk1) for all chunks of n rows; true when done, and the next call starts anew.
  template <class Work>
  bool run(int64_t n, int64_t length, int64_t row_work, Budget& budget, Work&& work) {
    const int64_t chunks = chunks_of(n, length);
    constexpr int64_t fewest = 16;  // of whole multiples: so many threads share a slice evenly
    // Some milliseconds: where other processes hold a core, threads wait for each other after
    // every slice.
    constexpr int64_t work_of_slice = 128 * Budget::unit;
    const int64_t slice =
        fewest * std::max<int64_t>(1, work_of_slice / (row_work * length) / fewest);
    while (chunk_ < chunks) {
      const int64_t end = std::min(chunks, chunk_ + slice);
      work(chunk_, end);
      chunk_ = end;
      const int64_t rows = std::min(n, slice * length);
      if (budget.spent(rows * row_work + 128) && chunk_ < chunks) return false;
    }
    chunk_ = 0;
    return true;
  }

  bool fresh() const { return chunk_ == 0; }
  void restart() { chunk_ = 0; }

 private:
  int64_t chunk_ = 0;
};

// The sums of one set of rows.
template <class T>
class Pass {
 public:
  LinearSums sums;

  // True when all chunks are in `sums`; the next call then starts anew.
  bool run(const LinearArgs<T>& args, Budget& budget) {
    if (slices_.fresh()) sums.reset(args.d, args.t);
    const auto add = [&](int64_t chunk0, int64_t chunk1) {
      device<T>().linear(args, chunk0, chunk1, sums);
    };
    if (!slices_.run(args.n, L<T>, row_work(args), budget, add)) return false;
    sums.close();
    return true;
  }

  void restart() { slices_.restart(); }

 private:
  Slices slices_;
};

// The second moments of all rows, added chunk by chunk to those of other rows. They stay open.
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
    return slices_.run(problem_.n, L<T>, p * (p + 2 * problem_.t) / 2 * (sizeof(T) == 4 ? 1 : 8),
                       budget, [&](int64_t chunk0, int64_t chunk1) {
                         device<T>().moments(problem_.args(nullptr), chunk0, chunk1, moments);
                       });
  }

 private:
  Problem<T> problem_{};
  Slices slices_;
};

}  // namespace gdcore
