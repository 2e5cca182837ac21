// Rows for the host to read, wherever they are.
#pragma once

#include <algorithm>
#include <vector>

#include "descend.hpp"
#include "fit/problem.hpp"

namespace gdcore {

// A problem of rows in this order (none: as they are), all copied to `storage`.
template <class T>
Problem<T> on_host(Problem<T> problem, const RowOrder& order, std::vector<T>& storage) {
  const Device<T>& device = *problem.device;
  const LinearArgs<T> rows =
      fetched_rows(ProblemRows<T>{problem.args(nullptr), order}, storage, device.fetch);
  problem.device = &host_of(device);
  return with_rows(problem, rows);
}

// The rows of one problem after the other. Those of a device with its own memory are copied, some
// megabytes at a time.
template <class T>
class HostRows {
 public:
  // The rows from `first` on, as many as are at hand. All but the last are a multiple of 512.
  Problem<T> from(const Problem<T>& problem, int64_t first) {
    if (problem.device->of_host) return problem.rows(first, problem.n - first);
    if (first < first_ || first >= first_ + fetched_.n) fetch(problem, first);
    return fetched_.rows(first - first_, first_ + fetched_.n - first);
  }
  void restart() { fetched_.n = 0; }  // other rows follow

 private:
  void fetch(const Problem<T>& problem, int64_t first) {
    constexpr int64_t most_bytes = 1 << 22;
    const int64_t row_bytes = (problem.d + 2 * problem.t + 1) * static_cast<int64_t>(sizeof(T));
    const int64_t most = std::max<int64_t>(1, most_bytes / row_bytes / L<T>) * L<T>;
    fetched_ = on_host(problem.rows(first, std::min(most, problem.n - first)), {}, storage_);
    first_ = first;
  }

  int64_t first_ = 0;
  Problem<T> fetched_{};
  std::vector<T> storage_;
};

}  // namespace gdcore
