// Second moments of a window of rows that slides: rows enter and leave.
#pragma once

#include <optional>
#include <vector>

#include "fit/decay.hpp"
#include "fit/passes.hpp"

namespace gdcore {

struct Window {
  int64_t begin, end;  // rows [begin, end)
};

// With a decay, the newest row of a window weighs about 1.
template <class T>
class WindowMoments {
 public:
  // The decay outlives the moments; one that is empty changes no weight.
  WindowMoments(const Problem<T>& problem, const Decay<T>& decay);

  const Moments& moments() const { return moments_; }
  // The window's problem. Its weights may be read after `weigh` alone.
  Problem<T> rows() const;
  Problem<T> weigh() const;

  // Sums all rows of a window; false if that needs another call.
  bool sum(Window window, Budget& budget);
  // The same for a window that neither begins nor ends before the last one, where rows that enter
  // are added and rows that leave are subtracted, if rounding errors allow that.
  bool slide(Window window, Budget& budget);
  int64_t recomputed() const { return recomputed_; }  // windows whose rows were all summed

 private:
  void move(Window window);
  void add(int64_t first, int64_t last, double sign);
  bool drifted() const;

  Problem<T> problem_;
  const Decay<T>* decay_;
  Window window_{0, 0};
  int64_t recomputed_ = 0;
  Moments moments_, part_;       // of the window; of rows that enter or leave
  std::vector<double> touched_;  // squares that entered or left since all rows were summed
  mutable std::vector<T> weights_, part_weights_;
  std::optional<MomentsPass<T>> fresh_;
};

}  // namespace gdcore
