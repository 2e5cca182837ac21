// Descents on small quadratics side by side, in the lanes of vectors. Only their ordinary epochs
// are here: how they begin and end is for Descent.
#pragma once

#include <vector>

#include "fit/descent.hpp"

namespace gdcore {

template <class T>
class Lanes {
 public:
  static constexpr int count = QuadraticLanes<T>::lanes;
  static constexpr int64_t most_epochs = 256;  // of one run

  static bool serve(const Problem<T>& problem, const DescentOptions& options) {
    return device<T>().quadratic_lanes && problem.t == 1 && problem.size() <= most_lane_params &&
           options.batch_size == 0 && !options.sgd.maximize;
  }

  Lanes(int64_t p, const DescentOptions& options);

  bool empty() const { return view_.active == 0; }
  bool holds(int lane) const { return view_.active >> lane & 1; }

  void load(int lane, const Quadratic<T>& quadratic, const Scale& scale,
            const DescentOptions& options, double lr, const DescentState<T>& state);
  // The state after its last epoch; the lane is free again.
  DescentState<T> unload(int lane);

  // Runs at most so many epochs of all lanes; the epochs done, and a bit for each lane that may
  // end.
  int64_t run(int64_t epochs, unsigned& ending);
  T loss(int lane, int64_t epoch) const { return losses_[epoch * count + lane]; }  // of that run

 private:
  int64_t p_;
  bool momentum_;
  QuadraticLanes<T> view_;
  std::vector<double> sums_, scales_;
  std::vector<T> params_, losses_;
  std::vector<int64_t> flags_;
  int64_t epoch_[count] = {};
};

}  // namespace gdcore
