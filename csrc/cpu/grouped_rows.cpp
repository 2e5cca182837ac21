// Rows sorted by group: all of them, or those of some groups.
#include "grouped_rows.hpp"

#include <algorithm>
#include <limits>

#include "cpu/parallel.hpp"
#include "cpu/threads.hpp"

namespace gdcore {
namespace {

// Rows go to buckets of groups first: few enough that what is written to each stays in a cache,
// enough that a bucket does.
constexpr int64_t most_buckets = 1024, rows_of_bucket = 1 << 15;
constexpr int64_t most_parts = 32;  // of the rows, for threads to take

// A radix sort of two digits. U holds rows and groups.
template <class U>
class ByGroup {
 public:
  explicit ByGroup(const GroupedRows& rows)
      : group_(rows.group()),
        starts_(rows.starts().data()),
        rows_(rows.rows()),
        groups_(rows.groups()) {
    const int64_t most = std::clamp<int64_t>(rows_ / rows_of_bucket, 1, most_buckets);
    while ((groups_ - 1) >> shift_ >= most) ++shift_;
    buckets_ = ((groups_ - 1) >> shift_) + 1;
    parts_ = std::clamp<int64_t>(rows_ / rows_of_bucket, 1, most_parts);
    next_.assign(static_cast<size_t>(parts_ * buckets_), 0);
    sorted_.reset(new Row[static_cast<size_t>(rows_)]);
  }

  void run(int64_t* order) {
    each_part([&](int64_t i, int64_t* next) { ++next[group_[i] >> shift_]; });
    for (int64_t b = 0; b < buckets_; ++b) {
      int64_t total = starts_[b << shift_];
      for (int64_t part = 0; part < parts_; ++part) {
        int64_t& next = next_[part * buckets_ + b];
        const int64_t count = next;
        next = total;
        total += count;
      }
    }
    each_part([&](int64_t i, int64_t* next) {
      const uint32_t group = group_[i];
      sorted_[next[group >> shift_]++] = {static_cast<U>(i), static_cast<U>(group)};
    });
    on_threads(buckets_, [&](int64_t bucket) { finish(bucket, order); });
  }

 private:
  struct Row {
    U row, group;
  };

  // work(i) for i < count.
  template <class Work>
  void on_threads(int64_t count, Work&& work) const {
    parallel_for(count, threads_for(count, 4 * rows_), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) work(i);
    });
  }

  // work(i, next of its part) for all rows, each part's in turn.
  template <class Work>
  void each_part(Work&& work) {
    on_threads(parts_, [&](int64_t part) {
      int64_t* const next = next_.data() + part * buckets_;
      const int64_t end = rows_ * (part + 1) / parts_;
      for (int64_t i = rows_ * part / parts_; i < end; ++i) work(i, next);
    });
  }

  void finish(int64_t bucket, int64_t* order) const {
    const int64_t first = bucket << shift_, last = std::min(groups_, (bucket + 1) << shift_);
    std::vector<int64_t> next(starts_ + first, starts_ + last);
    for (int64_t i = starts_[first]; i < starts_[last]; ++i)
      order[next[sorted_[i].group - first]++] = sorted_[i].row;
  }

  const uint32_t* group_;
  const int64_t* starts_;
  int64_t rows_, groups_, buckets_ = 0, parts_ = 1;
  int shift_ = 0;
  std::vector<int64_t> next_;      // (parts, buckets)
  std::unique_ptr<Row[]> sorted_;  // by bucket
};

}  // namespace

void GroupedRows::first_rows(int64_t* first) const {
  if (in_place()) {
    std::copy(starts_.begin(), starts_.end() - 1, first);
    return;
  }
  for (int64_t i = rows(); i-- > 0;) first[group_[i]] = i;
}

const int64_t* GroupedRows::order() const {
  if (const int64_t* sorted = sorted_.load()) return sorted;
  const std::lock_guard lock(mutex_);
  if (!order_) {
    std::unique_ptr<int64_t[]> order(new int64_t[static_cast<size_t>(rows())]);
    if (rows() <= std::numeric_limits<uint32_t>::max())
      ByGroup<uint32_t>(*this).run(order.get());
    else
      ByGroup<uint64_t>(*this).run(order.get());
    order_ = std::move(order);
    sorted_ = order_.get();
  }
  return order_.get();
}

RowOrder GroupedRows::order_of(int64_t group) const {
  const int64_t* const all = order();
  return {all + starts_[group], all + rows()};
}

std::vector<int64_t> GroupedRows::order_of_some(const uint8_t* wanted) const {
  std::vector<int64_t> next(static_cast<size_t>(groups()));
  int64_t count = 0;
  for (int64_t g = 0; g < groups(); ++g) {
    next[g] = count;
    if (wanted[g]) count += starts_[g + 1] - starts_[g];
  }
  std::vector<int64_t> some(static_cast<size_t>(count));
  for (int64_t i = 0; i < rows(); ++i)
    if (wanted[group_[i]]) some[next[group_[i]]++] = i;
  return some;
}

}  // namespace gdcore
