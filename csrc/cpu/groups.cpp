#include "cpu/groups.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <vector>

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
  ByGroup(const int64_t* labels, int64_t rows, int64_t low, int64_t groups)
      : labels_(labels), rows_(rows), low_(low), groups_(groups) {
    const int64_t most = std::clamp<int64_t>(rows / rows_of_bucket, 1, most_buckets);
    while ((groups - 1) >> shift_ >= most) ++shift_;
    buckets_ = ((groups - 1) >> shift_) + 1;
    parts_ = std::clamp<int64_t>(rows / rows_of_bucket, 1, most_parts);
    next_.assign(static_cast<size_t>(parts_ * buckets_), 0);
    begin_.assign(static_cast<size_t>(buckets_ + 1), rows);
    sorted_.reset(new Row[static_cast<size_t>(rows)]);
  }

  void run(int64_t* starts, int64_t* order) {
    each_part([&](int64_t i, int64_t* next) { ++next[code(i) >> shift_]; });
    int64_t total = 0;
    for (int64_t b = 0; b < buckets_; ++b) {
      begin_[b] = total;
      for (int64_t part = 0; part < parts_; ++part) {
        int64_t& next = next_[part * buckets_ + b];
        const int64_t count = next;
        next = total;
        total += count;
      }
    }
    each_part([&](int64_t i, int64_t* next) {
      const int64_t c = code(i);
      sorted_[next[c >> shift_]++] = {static_cast<U>(i), static_cast<U>(c)};
    });
    on_threads(buckets_, [&](int64_t bucket) { finish(bucket, starts, order); });
    starts[groups_] = rows_;
  }

 private:
  struct Row {
    U row, code;
  };

  int64_t code(int64_t i) const { return labels_[i] - low_; }

  // work(i) for i < count.
  template <class Work>
  void on_threads(int64_t count, Work&& work) const {
    std::atomic<int64_t> free{0};
    const Team threads = threads_for(count, 4 * rows_);
    parallel_for(threads, threads, [&](int64_t, int64_t, int) {
      for (int64_t i; (i = free++) < count;) work(i);
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

  void finish(int64_t bucket, int64_t* starts, int64_t* order) const {
    const int64_t first = bucket << shift_, last = std::min(groups_, (bucket + 1) << shift_);
    std::vector<int64_t> next(static_cast<size_t>(last - first), 0);
    for (int64_t i = begin_[bucket]; i < begin_[bucket + 1]; ++i) ++next[sorted_[i].code - first];
    int64_t total = begin_[bucket];
    for (int64_t g = first; g < last; ++g) {
      const int64_t count = next[g - first];
      starts[g] = next[g - first] = total;
      total += count;
    }
    for (int64_t i = begin_[bucket]; i < begin_[bucket + 1]; ++i)
      order[next[sorted_[i].code - first]++] = sorted_[i].row;
  }

  const int64_t* labels_;
  int64_t rows_, low_, groups_, buckets_ = 0, parts_ = 1;
  int shift_ = 0;
  std::vector<int64_t> next_, begin_;  // (parts, buckets), (buckets + 1)
  std::unique_ptr<Row[]> sorted_;      // by bucket
};

}  // namespace

Grouping rows_by_group(const int64_t* labels, int64_t rows, int64_t low, int64_t groups,
                       int64_t* starts, int64_t* order) {
  bool outside = false, falls = false;
  for (int64_t i = 0; i < rows; ++i) {
    const uint64_t code = static_cast<uint64_t>(labels[i]) - static_cast<uint64_t>(low);
    outside |= code >= static_cast<uint64_t>(groups);
    falls |= i > 0 && labels[i] < labels[i - 1];
  }
  if (outside) return Grouping::outside;
  if (!falls) {
    int64_t i = 0;
    for (int64_t g = 0; g <= groups; starts[g++] = i)
      while (i < rows && labels[i] - low < g) ++i;
    return Grouping::in_place;
  }
  const bool narrow = rows <= std::numeric_limits<uint32_t>::max() &&
                      groups <= std::numeric_limits<uint32_t>::max();
  if (narrow)
    ByGroup<uint32_t>(labels, rows, low, groups).run(starts, order);
  else
    ByGroup<uint64_t>(labels, rows, low, groups).run(starts, order);
  return Grouping::ordered;
}

}  // namespace gdcore
