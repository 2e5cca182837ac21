// Second moments of a window of rows that slides: rows enter and leave.
#pragma once

#include <optional>
#include <vector>

#include "fit/passes.hpp"

namespace gdcore {

// Second moments of rows [k step, k step + window), k = 0, 1, ...
template <class T>
class WindowMoments {
 public:
  WindowMoments(const Problem<T>& problem, int64_t window, int64_t step);

  const Moments& moments() const { return moments_; }
  Problem<T> rows() const { return problem_.rows(first_, window_); }
  int64_t recomputed() const { return recomputed_; }

  // The first window's moments, or those of the one after the last; false if that needs another
  // call.
  bool next(Budget& budget);

 private:
  void slide();
  void add(const Problem<T>& rows, double sign);
  bool drifted() const;
  template <class F>
  bool each_square(const Moments& moments, F&& f) const;

  Problem<T> problem_;
  int64_t window_, step_, first_ = 0, slides_ = 0, recomputed_ = 0;
  bool begun_ = false;
  Moments moments_, part_;       // of the window; of rows that enter or leave
  std::vector<double> touched_;  // squares that entered or left since the sums were computed again
  std::optional<MomentsPass<T>> fresh_;
};

}  // namespace gdcore
