// Loss and gradient of a linear model over a range of segments: X is read once from memory.
#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/linear_segment.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"
#include "cpu/threads.hpp"

namespace gdcore::cpu {
namespace {

// Adds the slots of segments [segment0, segment1), in their order.
template <class T>
void add(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, T* slots,
         const double* totals, LinearSums& sums) {
  const auto add_to = [](std::vector<double>& to, const T* from) {
    for (double& sum : to) sum += *from++;
  };
  for (int64_t c = segment0; c < segment1; ++c, slots += slot_size(args)) {
    const Partial<T> partial = partial_at(args, slots);
    const int64_t parts = ceil_div(rows_of(args, c) * args.t, L<T>);
    sums.begin_segment();
    for (int64_t e = 0; e < parts; ++e) sums.add_squares(partial.squares[e]);
    if (args.sample_weight.data) sums.sample_weight += totals[c - segment0];
    add_to(sums.weights, partial.weights);
    add_to(sums.intercept, partial.intercept);
  }
}

constexpr int64_t slots_bytes = 4 << 20;  // partials that are not added yet
constexpr int64_t slots_bytes_serial = 16 << 10;
constexpr int64_t segments_per_call = 16;

thread_local Scratch scratch;

// One target in the layout of the kernels, few features: nothing to plan, copy or allocate. Returns
// false for other layouts. Small fits spend their time here.
template <class T>
bool linear_in_place(const LinearArgs<T>& args, int64_t segment0, int64_t segment1,
                     LinearSums& sums) {
  constexpr int64_t most_d = 62;
  const int64_t n = args.n, d = args.d;
  const auto unit = [&](int64_t stride) { return stride == 1 || n == 1; };
  const bool X_fits = (args.X.cs == 1 || d == 1) && (args.X.rs == d || n == 1);
  if (args.t != 1 || d < 1 || d > most_d || args.order || args.scaling || !X_fits ||
      (d > 1 && args.weights.rs != 1) || (args.y.data && !unit(args.y.rs)) ||
      (args.offset.data && !unit(args.offset.rs)) || args.sample_weight.data)
    return false;
  alignas(64) T slots[segments_per_call * (most_d + 2)];
  for (int64_t c = segment0; c < segment1; c += segments_per_call) {
    const int64_t end = std::min(segment1, c + segments_per_call), first = args.first + c * L<T>;
    const LinearRows<T> x{std::min(n, end * L<T>) - c * L<T>,
                          d,
                          args.X.data + first * args.X.rs,
                          d,
                          args.weights.data,
                          args.intercept.data,
                          args.offset.data ? args.offset.data + first * args.offset.rs : nullptr,
                          args.y.data ? args.y.data + first * args.y.rs : nullptr,
                          nullptr,
                          from_memory(args),
                          static_cast<T>(args.loss.delta)};
    isa<T>().linear(args.loss).rows(x, slots, slot_size(args));
    add(args, c, end, slots, nullptr, sums);
  }
  return true;
}

// In waves: threads fill slots, then the slots are added in the order of the segments.
template <class T>
void linear_planned(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, LinearSums& sums,
                    Team threads) {
  const SegmentPlan<T> plan(args);
  const int64_t slot = slot_size(args), memory = padded_to_page<T>(plan.size());
  const int64_t bytes = threads == 1 ? slots_bytes_serial : slots_bytes;
  const int64_t fitting = bytes / static_cast<int64_t>(sizeof(T)) / std::max<int64_t>(slot, 1);
  const int64_t slots =
      std::clamp<int64_t>(fitting, threads, std::max<int64_t>(threads, segment1 - segment0));
  T* const values = scratch.reserve_as<T>(padded_to_page<T>(slot * slots) + memory * threads);
  T* const space = values + padded_to_page<T>(slot * slots);
  std::vector<double> totals(static_cast<size_t>(args.sample_weight.data ? slots : 0));
  const auto total = [&](int64_t s) {
    return totals.empty() ? nullptr : &totals[static_cast<size_t>(s)];
  };

  for (int64_t wave = segment0; wave < segment1; wave += slots) {
    const int64_t count = std::min(slots, segment1 - wave);
    parallel_for(count, threads, [&](int64_t begin, int64_t end, int thread) {
      Segment<T> segment(plan, space + memory * thread);
      segment.run(wave + begin, wave + end, values + begin * slot, total(begin));
    });
    add(args, wave, wave + count, values, total(0), sums);
  }
}

}  // namespace

template <class T>
void linear(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, LinearSums& sums) {
  const int64_t segments = segment1 - segment0;
  const int64_t work = 2 * (std::min(args.n, segments * L<T>) * args.t) * (args.d + 1);
  const Team threads = threads_for(segments, work);
  if (threads == 1 && linear_in_place(args, segment0, segment1, sums)) return;
  linear_planned(args, segment0, segment1, sums, threads);
  scratch.trim();
}

template <class T>
void linear_each(int64_t count, const LossArgs<T>* args) {
  int64_t work = 0;
  for (int64_t i = 0; i < count; ++i) {
    const LinearArgs<T>& rows = args[i].rows;
    work += 2 * rows.n * rows.t * (rows.d + 1);
  }
  // Many problems: whole ones to each thread. Few: threads inside each.
  const Team threads = count >= 2 * num_threads() ? threads_for(count, work) : Team{1, work};
  parallel_for(count, threads, [&](int64_t begin, int64_t end, int) {
    LinearSums sums;
    for (int64_t i = begin; i < end; ++i) {
      const LinearArgs<T>& rows = args[i].rows;
      sums.reset(rows.d, rows.t);
      linear(rows, 0, ceil_div(rows.n, L<T>), sums);
      sums.close();
      write_loss(args[i], sums);
    }
  });
}

#define GDCORE_INSTANTIATE(T)                                                   \
  template void linear<T>(const LinearArgs<T>&, int64_t, int64_t, LinearSums&); \
  template void linear_each<T>(int64_t, const LossArgs<T>*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
