// One fit for each window of rows, on second moments that rows enter and leave.
#pragma once

#include <optional>
#include <vector>

#include "fit/curvature.hpp"
#include "fit/descent.hpp"
#include "fit/exact.hpp"
#include "fit/window_moments.hpp"

namespace gdcore {

struct RollingOptions {
  DescentOptions descent;
  int64_t window = 1, step = 1, epochs = 0;
  double lr = 0;     // 0: share / (largest eigenvalue + weight decay)
  double share = 1;  // of each window
  bool standardize = false;
  bool auto_momentum = false;
  std::optional<ExactOptions> exact;  // solve in closed form instead
};

template <class T>
struct RollingResults {  // an entry a window; params (size)
  std::vector<T> params, loss, first_loss;
  std::vector<double> lr, momentum, curvature, r2_lost;
  std::vector<int64_t> epochs, rank;            // rank: in closed form, else 0
  std::vector<std::optional<Outcome>> outcome;  // none: no row has a weight
};

template <class T>
class Rolling {
 public:
  Rolling(const Problem<T>& problem, const RollingOptions& options, std::vector<T> start);

  // True when all windows are done, or one is out of range; otherwise call again.
  bool advance(double seconds);

  int64_t done() const { return static_cast<int64_t>(results_.epochs.size()); }
  const RollingResults<T>& results() const { return results_; }
  int64_t recomputed() const { return windows_.recomputed(); }
  // The squares of window done() overflow, or lose their rounding errors.
  bool out_of_range() const { return out_of_range_; }

 private:
  bool fit_window(Budget& budget);
  bool solve(Budget& budget);
  void begin_descent();
  void begin_loss(Solution<T> solution);
  void record();
  void record_empty();
  T loss_of_rows() const;
  const double* scaling() const { return scaling_.empty() ? nullptr : scaling_.data(); }
  Problem<T> rows() const;  // of this window

  Problem<T> problem_;
  RollingOptions options_;
  std::vector<T> start_;
  int64_t count_;
  WindowMoments<T> windows_;
  bool out_of_range_ = false;
  enum class Stage {
    moments,
    solution,
    curvature,
    descent
  } stage_ = Stage::moments;  // of this window
  Quadratic<T> quadratic_;
  Spectrum<T> spectrum_;
  Descent<T> descent_;
  std::optional<Exact<T>> exact_;
  int64_t rank_ = 0;
  double lr_ = 0;
  std::vector<double> scaling_;  // of this window; empty if its columns are as they are
  Outcome outcome_ = Outcome::running;
  RollingResults<T> results_;
};

}  // namespace gdcore
