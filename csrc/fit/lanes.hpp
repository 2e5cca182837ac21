// Small problems of one target side by side, in the lanes of vectors.
#pragma once

#include <vector>

#include "fit/state.hpp"

namespace gdcore {

// Which rows of a table are those of a problem, if they do not lie together.
struct RowOrder {
  const int64_t* rows = nullptr;
  const int64_t* end = nullptr;  // of all problems' rows: those behind its own are due next
};

// Rows of some problems, transposed.
template <class T>
class LanePanel {
 public:
  // Rows of d features, at most so many of a problem.
  LanePanel(int64_t d, int64_t most_rows, bool has_offset);
  LanePanel(const LanePanel&) = delete;
  LanePanel& operator=(const LanePanel&) = delete;

  // The problem's rows, or those that `order` names.
  void load(int lane, const Problem<T>& problem, RowOrder order);
  const LaneRows<T>& view() const { return view_; }

 private:
  std::vector<T> X_, y_, ones_, offset_;
  int64_t n_[lanes] = {};
  LaneRows<T> view_;
};

// Their second moments.
template <class T>
class MomentsLanes {
 public:
  static bool serve(const Problem<T>& problem, int64_t rows) {
    constexpr int64_t most_elements = 4096;  // of a lane: a second cache holds all
    return device<T>().moments_lanes && problem.t == 1 && !problem.offset.data &&
           !problem.sample_weight.data && problem.size() <= most_lane_params && rows <= L<T> &&
           rows * (problem.d + 2) <= most_elements;
  }

  MomentsLanes(int64_t d, int64_t most_rows);

  void load(int lane, const Problem<T>& problem, RowOrder order) {
    panel_.load(lane, problem, order);
  }
  void run();
  void moments(int lane, Moments& out) const;

 private:
  LanePanel<T> panel_;
  std::vector<double> sums_;
  LaneMoments<T> view_;
};

// Descents, on quadratics or on rows. Only their ordinary epochs are here: how they begin and end
// is for Descent.
template <class T>
class Lanes {
 public:
  static constexpr int64_t most_epochs = 256;  // of one run

  static bool serve(const Problem<T>& problem, const DescentOptions& options) {
    return device<T>().descent_lanes && problem.t == 1 && problem.size() <= most_lane_params &&
           options.batch_size == 0 && !options.sgd.maximize;
  }
  static bool serve_rows(const Problem<T>& problem, int64_t rows) {
    return problem.d > 0 && problem.d <= most_lane_features && rows <= L<T> &&
           !problem.sample_weight.data;
  }

  // Quadratics of p parameters, or d features and at most so many rows of problems.
  Lanes(int64_t p, const DescentOptions& options) : Lanes(p, options, nullptr, 0) {}
  Lanes(const Problem<T>& problem, int64_t most_rows, const DescentOptions& options)
      : Lanes(problem.size(), options, &problem, most_rows) {}

  bool empty() const { return view_.active == 0; }
  bool full() const { return view_.active + 1 == 1u << lanes; }
  bool holds(int lane) const { return view_.active >> lane & 1; }
  int free_lane() const { return __builtin_ctz(~view_.active); }

  // Whether they could serve quadratics of p parameters, with these options, as they are.
  bool suit(int64_t p, const DescentOptions& options) const {
    return !view_.on_rows && p == p_ && records_.empty() != records(options);
  }

  void load(int lane, const double* packed);  // see Quadratic
  void load(int lane, const Problem<T>& problem, RowOrder order) {
    panel_.load(lane, problem, order);
  }
  // After either. Options other than momentum and weight decay are those of all lanes.
  void start(int lane, const Objective& objective, const DescentOptions& options, double lr,
             double norm_bound, const DescentState<T>& state);
  // Where its epochs have led from the state it started with; the lane is free again.
  void unload(int lane, DescentState<T>& state);

  // Runs at most so many epochs of all lanes; the epochs done, and a bit for each lane that may
  // end, or has come to where another epoch would.
  int64_t run(int64_t epochs, unsigned& ending);
  int64_t work(int64_t epochs) const;  // of a run
  // Of an epoch of that run; or, if it did all of them, of the one to come.
  T loss(int lane, int64_t epoch) const { return losses_[epoch * lanes + lane]; }
  double divisor(int lane) const { return view_.divisor[lane]; }  // of the loss
  // Parameters after that epoch, if they are recorded, behind the others.
  void append_params(int lane, int64_t epoch, std::vector<T>& all) const {
    for (int64_t j = 0; j < p_; ++j) all.push_back(records_[(epoch * p_ + j) * lanes + lane]);
  }

 private:
  Lanes(int64_t p, const DescentOptions& options, const Problem<T>* like, int64_t most_rows);
  static bool records(const DescentOptions& options) {
    return options.history > 0 && options.record_params;
  }

  int64_t p_;
  LanePanel<T> panel_;
  DescentLanes<T> view_;
  std::vector<double> sums_, scales_;
  std::vector<T> params_, losses_, records_;
  std::vector<int64_t> flags_;
  int64_t epoch_[lanes] = {};
};

}  // namespace gdcore
