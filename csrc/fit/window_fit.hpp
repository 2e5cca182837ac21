// The fit of one window after the other, on second moments that slide.
#pragma once

#include <optional>
#include <vector>

#include "fit/curvature.hpp"
#include "fit/descent.hpp"
#include "fit/exact.hpp"
#include "fit/inference.hpp"
#include "fit/window_moments.hpp"

namespace gdcore {

struct RollingOptions {
  DescentOptions descent;
  int64_t epochs = 0;
  double lr = 0;     // 0: share / (largest eigenvalue + weight decay)
  double share = 1;  // of each window
  bool standardize = false;
  bool auto_momentum = false;
  std::optional<ExactOptions> exact;  // solve in closed form instead
};

template <class T>
struct RollingResults {  // an entry a window; params (size)
  // p parameters, t targets
  RollingResults(int64_t count, int64_t p, int64_t t, bool infers);

  std::vector<T> params, loss, first_loss;
  std::vector<double> lr, momentum, curvature, r2_lost;
  std::vector<int64_t> epochs, rank;            // rank: in closed form, else 0
  std::vector<std::optional<Outcome>> outcome;  // none: no row has a weight
  Inferences inferences;                        // empty unless asked for
};

// What the windows of one call have in common.
template <class T>
struct RollingTask {
  Problem<T> problem;
  RollingOptions options;
  std::vector<T> start;
  Decay<T> decay;  // empty: rows weigh the same at every age
  // Rows of weight above 0 in each window, if a covariance is asked for.
  std::vector<int64_t> counts;

  bool infers() const { return options.exact && options.exact->covariance != Covariance::none; }
};

template <class T>
class WindowFit {
 public:
  explicit WindowFit(const RollingTask<T>& task);

  // Fits a window, and writes result i; false if that needs another call. Unless `slides`, all rows
  // are summed.
  bool run(Window window, bool slides, int64_t i, RollingResults<T>& results, Budget& budget);

  // The squares of the last window overflow, or lose their rounding errors. It has no result.
  bool out_of_range() const { return out_of_range_; }
  int64_t recomputed() const { return moments_.recomputed(); }

 private:
  bool solve(Budget& budget);
  void begin_descent();
  void begin_loss(Solution<T> solution);
  void record(int64_t i, RollingResults<T>& results);
  void record_empty(int64_t i, RollingResults<T>& results);
  void record_inference(int64_t i, RollingResults<T>& results);
  T loss_of_rows() const;
  const double* scaling() const { return scaling_.empty() ? nullptr : scaling_.data(); }
  Problem<T> scaled(Problem<T> rows) const;

  const RollingTask<T>& task_;
  WindowMoments<T> moments_;
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
  Inference<T> inference_;
  int64_t rank_ = 0;
  double lr_ = 0, momentum_ = 0;
  std::vector<double> scaling_;  // of this window; empty if its columns are as they are
  Outcome outcome_ = Outcome::running;
};

}  // namespace gdcore
