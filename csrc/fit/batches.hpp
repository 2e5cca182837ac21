// The rows of mini-batches.
#pragma once

#include <algorithm>
#include <vector>

#include "descend.hpp"
#include "fit/problem.hpp"

namespace gdcore {

// Memory that epochs share.
template <class T>
struct BatchMemory {
  std::vector<int64_t> numbers;
  std::vector<T> rows;
};

// Shuffled rows lie anywhere in memory. Where several batches fit into a cache, they are copied
// together, in their order: a batch alone would wait for each of its rows.
template <class T>
class Batches {
 public:
  // `order` is that of the epoch; null: rows as they are.
  Batches(const Problem<T>& problem, const Permutation* order, int64_t batch,
          BatchMemory<T>& memory)
      : problem_(problem), order_(order), memory_(memory) {
    constexpr int64_t most_bytes = 1 << 18, fewest_batches = 4;
    const int64_t row_bytes = (problem.d + 2 * problem.t + 1) * static_cast<int64_t>(sizeof(T));
    const int64_t batches = most_bytes / row_bytes / batch;
    if (order && problem.device->of_host && batches >= fewest_batches) together_ = batches * batch;
  }

  // The rows at positions [first, first + count), a batch.
  LinearArgs<T> at(int64_t first, int64_t count, const T* params) {
    if (together_ == 0) {
      LinearArgs<T> args = problem_.args(params);
      args.order = order_;
      args.first = first;
      args.n = count;
      return args;
    }
    if (first < first_ || first + count > first_ + copied_.n) copy(first);
    LinearArgs<T> args = copied_.args(params);
    args.first = first - first_;
    args.n = count;
    return args;
  }

 private:
  void copy(int64_t first) {
    const int64_t count = std::min(together_, problem_.n - first);
    memory_.numbers.resize(static_cast<size_t>(count));
    int64_t* const numbers = memory_.numbers.data();
    order_->rows(first, count, numbers);
    ProblemRows<T> rows{problem_.args(nullptr), {numbers, numbers + count}};
    rows.args.n = count;
    copied_ = with_rows(problem_, rows_in_order(rows, memory_.rows));
    first_ = first;
  }

  const Problem<T>& problem_;
  const Permutation* order_;
  int64_t together_ = 0;  // rows; 0: none are copied
  int64_t first_ = 0;     // the position of the first one copied
  Problem<T> copied_{};
  BatchMemory<T>& memory_;
};

}  // namespace gdcore
