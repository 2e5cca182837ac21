#include "cpu/moments_in_lanes.hpp"

#include <algorithm>
#include <atomic>
#include <type_traits>

#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"
#include "cpu/threads.hpp"

namespace gdcore::cpu {
namespace {

template <class T>
struct Layout {
  static constexpr int64_t parts = std::is_same_v<T, double> ? 2 : 1;  // of a sum
  int64_t d, lanes;
  int64_t sums;  // of a segment, in the order of Moments

  explicit Layout(int64_t features)
      : d(features), lanes(isa<T>().segment_lanes), sums((d + 1) * (d + 2) + 1) {}

  int64_t part() const { return lines<double>(sums); }
  int64_t slot() const { return parts * part(); }
  int64_t group_bytes() const { return slot() * lanes * static_cast<int64_t>(sizeof(double)); }

  // Rows to turn at a time: a first cache holds most of their numbers.
  int64_t rows() const {
    constexpr int64_t panel_bytes = 35 << 10, most = 64;
    int64_t rows = most;
    while (rows > lanes &&
           rows * (d + 1) * lanes * static_cast<int64_t>(sizeof(double)) > panel_bytes)
      rows /= 2;
    return rows;
  }
  int64_t panel() const { return lines<double>(rows() * (d + 1) * lanes); }
  int64_t sums_of_lanes() const { return lines<double>(((d + 2) * (d + 2) + lanes) * lanes); }
  int64_t memory() const { return panel() + parts * sums_of_lanes(); }
};

template <class T>
Team threads_for_segments(const LinearArgs<T>& args, int64_t tasks, int64_t segments) {
  const int64_t work = segments * L<T> * (args.d + 1) * (args.d + 2);
  return threads_for(tasks, Layout<T>::parts == 2 ? 8 * work : work);
}

constexpr int64_t slots_bytes = 2 << 20;  // sums of segments that are not added yet

thread_local Scratch scratch;

// Adds the sums of `count` segments in turn.
void add_in_turn(const AddSumsArgs& x, void (*add)(const AddSumsArgs&)) {
  constexpr int64_t few = 64, line = 8;
  const Team adders = threads_for(x.n / few + 1, x.n * x.count);
  parallel_for(ceil_div(x.n, line), adders, [&](int64_t begin, int64_t end, int) {
    const int64_t at = line * begin, n = std::min(x.n, line * end) - at;
    add({n, x.count, x.sums + at, x.step, x.low, x.hi + at, x.lo + at, 1});
  });
}

}  // namespace

template <class T>
int64_t segments_in_lanes(const LinearArgs<T>& args, int64_t segment0, int64_t segment1) {
  const bool dense = args.X.cs == 1 && args.X.rs == args.d && args.y.rs == 1;
  if (!dense || args.t != 1 || args.d < 1 || args.d > isa<T>().most_segment_features) return 0;
  if (args.offset.data || args.sample_weight.data) return 0;
  const Layout<T> layout(args.d);
  const int64_t groups = (std::min(segment1, args.n / L<T>) - segment0) / layout.lanes;
  if (groups < 1) return 0;
  // The same number for each thread; they share the segments that are left one by one.
  const Team threads = threads_for_segments(args, segment1 - segment0, segment1 - segment0);
  const int64_t fitting = slots_bytes / layout.group_bytes();
  return std::min(groups, std::max<int64_t>(threads, fitting)) / threads * threads * layout.lanes;
}

// Threads fill slots, then the slots are added in the order of the segments.
template <class T>
void moments_in_lanes(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, Moments& out) {
  const Layout<T> layout(args.d);
  const int64_t lanes = layout.lanes, slot = layout.slot();
  const int64_t groups = (segment1 - segment0) / lanes;
  const Team threads = threads_for_segments(args, groups, segment1 - segment0);
  const int64_t memory = padded_to_page<double>(layout.memory());
  const int64_t all_slots = padded_to_page<double>(slot * lanes * groups);
  double* const values = scratch.reserve_as<double>(all_slots + memory * threads);
  // Neighbours, as the first rows of the next group are prefetched.
  const int64_t grain = std::clamp<int64_t>(groups / (8 * threads), 1, 8);
  std::atomic<int64_t> next{0};
  parallel_for(threads, threads, [&](int64_t, int64_t, int thread) {
    double* const panel = values + all_slots + memory * thread;
    double* const sums = panel + layout.panel();
    std::fill(sums, panel + layout.memory(), 0.0);
    for (int64_t begin; (begin = next.fetch_add(grain)) < groups;)
      for (int64_t group = begin; group < std::min(groups, begin + grain); ++group) {
        const int64_t row = args.first + (segment0 + group * lanes) * L<T>;
        isa<T>().segments({args.d, args.X.data + row * args.d, args.y.data + row, layout.rows(),
                           panel, sums, layout.sums_of_lanes(), values + group * lanes * slot, slot,
                           layout.part()});
      }
  });
  const double* from = values;
  for (int64_t left = segment1 - segment0, n; left > 0; left -= n, from += n * slot) {
    n = out.begin_segments(left);
    add_in_turn({layout.sums, n, from, slot, layout.part(), out.hi.data(), out.lo.data(), 1},
                isa<T>().add_sums);
  }
  scratch.trim();
}

#define GDCORE_INSTANTIATE(T)                                                    \
  template int64_t segments_in_lanes<T>(const LinearArgs<T>&, int64_t, int64_t); \
  template void moments_in_lanes<T>(const LinearArgs<T>&, int64_t, int64_t, Moments&);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
