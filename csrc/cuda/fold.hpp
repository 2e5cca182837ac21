// Partials of segments in the device's memory, and how they are added up there.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "cuda/kernels/fold_params.hpp"
#include "cuda/launch.hpp"
#include "device.hpp"

namespace gdcore::cuda {

template <class In>
void launch_fold(const FoldParams<In>& params) {
  launch_each<In>("fold", params.groups * params.pieces * params.entries, params);
}

// The sums of the pieces that the next partials of an open long sum make, in rows of `width`
// doubles. The first piece takes `first` partials and begins with `start`.
class HostPieces {
 public:
  HostPieces(int64_t first, int64_t count, std::vector<double> start)
      : first_(first),
        count_(count),
        width_(static_cast<int64_t>(start.size())),
        pieces_(1 + ceil_div(count - first, fan_in)),
        start_memory_(start.size() * sizeof(double)),
        sums_memory_(start.size() * static_cast<size_t>(pieces_) * sizeof(double)),
        sums_(start.size() * static_cast<size_t>(pieces_)) {
    copy_to_device(start_memory_.as<void>(), start.data(), start.size() * sizeof(double));
  }

  // Partials in (count, entries) are added to the columns from `column` on.
  template <class In>
  void fold(const In* in, int64_t entries, int64_t column) {
    launch_fold(FoldParams<In>{1, count_, entries, first_, fan_in, pieces_, in,
                               start_memory_.as<double>() + column,
                               sums_memory_.as<double>() + column, width_});
  }
  // The rows are there after synchronize().
  void fetch() {
    copy_to_host(sums_.data(), sums_memory_.as<void>(), sums_.size() * sizeof(double));
  }
  int64_t count() const { return pieces_; }
  // How many of the partials come after piece i.
  int64_t left(int64_t i) const { return std::max<int64_t>(0, count_ - first_ - i * fan_in); }
  const double* row(int64_t i) const { return sums_.data() + i * width_; }

 private:
  int64_t first_, count_, width_, pieces_;
  Memory start_memory_, sums_memory_;
  std::vector<double> sums_;
};

// Partials in (groups, count, entries), added level by level until at most 512 a group are left.
class DeviceLevels {
 public:
  DeviceLevels(int64_t groups, int64_t entries) : groups_(groups), entries_(entries) {}

  // Returns the sums (groups, count(), entries). The partials are of the level `at`, which is not
  // the highest.
  template <class In>
  const double* fold(const In* in, int64_t count, size_t at = 0) {
    const double* sums = level(in, count, at);
    while (count_ > fan_in && ++at + 1 < sum_levels) sums = level(sums, count_, at);
    return sums;
  }
  int64_t count() const { return count_; }

 private:
  template <class In>
  const double* level(const In* in, int64_t count, size_t at) {
    const int64_t pieces = ceil_div(count, fan_in);
    const auto bytes = static_cast<size_t>(groups_ * pieces * entries_) * sizeof(double);
    double* const sums = memory_[at].emplace(bytes).template as<double>();
    launch_fold(FoldParams<In>{groups_, count, entries_, std::min(count, fan_in), fan_in, pieces,
                               in, nullptr, sums, entries_});
    count_ = pieces;
    return sums;
  }

  int64_t groups_, entries_, count_ = 0;
  std::optional<Memory> memory_[sum_levels - 1];
};

}  // namespace gdcore::cuda
