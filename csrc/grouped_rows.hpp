// Rows of many groups: which group each is in, their numbers sorted by group once somebody asks,
// and the second moments of each group without that.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "device.hpp"

namespace gdcore {

constexpr int64_t most_groups = (int64_t{1} << 32) - 2;

class GroupedRows {
 public:
  // Rows [starts[g], starts[g + 1]) lie together already.
  explicit GroupedRows(std::vector<int64_t> starts) : starts_(std::move(starts)) {}
  // group (rows): of each row, in any order, as many as `starts` counts; null in place.
  GroupedRows(std::vector<int64_t> starts, std::unique_ptr<uint32_t[]> group)
      : starts_(std::move(starts)), group_(std::move(group)) {}

  const std::vector<int64_t>& starts() const { return starts_; }  // (groups + 1)
  int64_t groups() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t rows() const { return starts_.back(); }
  bool in_place() const { return !group_; }
  const uint32_t* group() const { return group_.get(); }  // of each row; null in place

  void first_rows(int64_t* first) const;  // the number of the first row of each group, none empty
  // The row numbers by group, those of a group in their order. Sorts all, once.
  const int64_t* order() const;
  RowOrder order_of(int64_t group) const;
  // Those of the groups that are wanted (groups), one after the other.
  std::vector<int64_t> order_of_some(const uint8_t* wanted) const;

 private:
  std::vector<int64_t> starts_;
  std::unique_ptr<uint32_t[]> group_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<int64_t[]> order_;
  mutable std::atomic<const int64_t*> sorted_{nullptr};  // order_, once it is there
};

// Sums over the rows of each group of the products of [x 1 y], each rounded in the order of the
// contract. Only for float32 rows of one target and few features.
class GroupSums {
 public:
  static constexpr int64_t most_features = 6;
  static bool serve(int64_t d, int64_t t) { return t == 1 && d >= 1 && d <= most_features; }

  // X (n,d), y (n,1), which must outlive the passes; of rows that are not in place.
  GroupSums(const Matrix<const float>& X, const Matrix<const float>& y, int64_t d,
            std::shared_ptr<const GroupedRows> rows);
  ~GroupSums();
  // Adds rows; true once all are in the sums.
  bool advance(double seconds);
  // Closed.
  void moments(int64_t group, Moments& out) const;

  int64_t features() const { return d_; }
  int64_t groups() const { return groups_; }

 private:
  struct Whole {
    int64_t group;
    std::vector<double> sums;
  };
  class Pass;

  int64_t d_, groups_, entry_;  // doubles of an entry: whole lines
  std::unique_ptr<void, void (*)(void*)> memory_;
  double* table_ = nullptr;     // (groups, entry): of the last rows of each
  std::vector<Whole> whole_;    // of segments of 512 rows before them, by group
  std::unique_ptr<Pass> pass_;  // until all rows are in the sums
};

}  // namespace gdcore
