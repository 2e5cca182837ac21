// Second moments of rows on the device.
#include <algorithm>
#include <optional>
#include <vector>

#include "cuda/device_rows.hpp"
#include "cuda/driver.hpp"
#include "cuda/fold.hpp"
#include "cuda/kernels/moments_params.hpp"
#include "cuda/operations.hpp"

namespace gdcore::cuda {
namespace {

template <class T>
constexpr bool in_pairs = sizeof(T) == 8;
template <class T>
constexpr int thread_side = in_pairs<T> ? 2 : 4;  // a thread has so many entries squared

template <class T>
MomentsParams<T> moments_params(const LinearArgs<T>& args) {
  MomentsParams<T> p{};
  p.d = static_cast<int>(args.d);
  p.t = static_cast<int>(args.t);
  p.X_rs = args.X.rs;
  p.X_cs = args.X.cs;
  p.y_rs = args.y.rs;
  p.y_cs = args.y.cs;
  p.offset_rs = args.offset.rs;
  p.offset_cs = args.offset.cs;
  p.weight_rs = args.sample_weight.stride;
  return p;
}

// The rows at positions 0, 1, ... of a problem.
template <class T>
MomentsUnit<T> rows_of_problem(const LinearArgs<T>& args, const int64_t* row_numbers) {
  MomentsUnit<T> all{args.X.data, args.y.data, args.offset.data, args.sample_weight.data,
                     row_numbers, args.n};
  if (row_numbers) {
    all.row_numbers += args.first;
    return all;
  }
  all.X += args.first * args.X.rs;
  if (all.y) all.y += args.first * args.y.rs;
  if (all.offset) all.offset += args.first * args.offset.rs;
  if (all.weight) all.weight += args.first * args.sample_weight.stride;
  return all;
}

// Partials of p.units segments.
template <class T>
void launch_moments(MomentsParams<T>& p) {
  constexpr int side = thread_side<T>, most_staged = 128;
  constexpr int64_t most_shared = 40 << 10;
  const int64_t columns = int64_t{p.d} + 1 + p.t;
  p.squares = columns > most_staged;
  p.units_of_block = 1;
  int threads = threads_of_block;
  if (p.squares) {
    const int64_t blocks = ceil_div(columns, square_threads * side);
    p.side = square_threads;
    p.width = 2 * square_threads * side;
    p.parts = blocks * (blocks + 1) / 2;
  } else {
    p.side = static_cast<int>(ceil_div(columns, side));
    p.width = p.side * side;
    p.tiles = int64_t{p.side} * (p.side + 1) / 2;
    p.parts = ceil_div(p.tiles, threads_of_block);
    const auto bytes = static_cast<int64_t>(moments_bytes(1, p.width));
    p.units_of_block = static_cast<int>(
        std::max<int64_t>(1, std::min({threads_of_block / p.tiles, most_shared / bytes, p.units})));
    threads = static_cast<int>(ceil_div(ceil_div(p.tiles, p.parts) * p.units_of_block, 32) * 32);
  }
  launch(kernel_of<T>("moments").c_str(), ceil_div(p.units, p.units_of_block) * p.parts, threads,
         moments_bytes(p.units_of_block, p.width), p);
}

// Device memory for the partials of so many segments.
template <class T>
struct MomentsPartials {
  Memory hi, lo;

  MomentsPartials(int64_t units, int64_t entries)
      : hi(static_cast<size_t>(units * entries) * sizeof(double)),
        lo(in_pairs<T> ? static_cast<size_t>(units * entries) * sizeof(double) : 0) {}
  void place(MomentsParams<T>& p) const {
    p.hi = hi.as<double>();
    p.lo = lo.as<double>();
  }
  FoldPairsParams folding(int64_t count, int64_t entries) const {
    FoldPairsParams f{};
    f.count = count;
    f.entries = entries;
    f.in_hi = hi.as<double>();
    f.in_lo = lo.as<double>();
    return f;
  }
};

void launch_fold(const FoldPairsParams& p) {
  launch_each<double>("fold_pairs", p.pieces * p.entries, p);
}

// f(entry, place in Moments::hi) for each entry that kernels keep.
template <class F>
void each_entry(int64_t d, int64_t t, F&& f) {
  const int64_t columns = d + 1 + t;
  int64_t entry = 0;
  for (int64_t a = 0; a <= d; ++a)
    for (int64_t b = a; b < columns; ++b) f(entry++, static_cast<size_t>(a * columns + b));
  for (int64_t u = 0; u < t; ++u) f(entry++, static_cast<size_t>((d + 1) * columns + u));
}

// From rows of kernels: hi (entries), lo (entries).
void unpack(const double* row, Moments& moments) {
  const int64_t entries = moments_entries(moments.d, moments.t);
  each_entry(moments.d, moments.t, [&](int64_t entry, size_t to) {
    moments.hi[to] = row[entry];
    moments.lo[to] = row[entry + entries];
  });
}
void pack(const Moments& moments, double* row) {
  const int64_t entries = moments_entries(moments.d, moments.t);
  each_entry(moments.d, moments.t, [&](int64_t entry, size_t from) {
    row[entry] = moments.hi[from];
    row[entry + entries] = moments.lo[from];
  });
}

// Adds segments [segment, segment + count) of p's problem, which make `pieces` pieces, of which the
// moments' own is the first and takes `first` segments. Partials of `wave` segments exist at a
// time: all of them, or those of one piece.
template <class T>
void add_pieces(MomentsParams<T>& p, int64_t segment, int64_t count, int64_t first, int64_t wave,
                Moments& moments) {
  const int64_t entries = moments_entries(p.d, p.t), pieces = 1 + ceil_div(count - first, fan_in);
  const auto row = static_cast<size_t>(2 * entries), all = row * static_cast<size_t>(pieces);
  std::vector<double> sums(all);
  pack(moments, sums.data());
  const Memory memory(all * sizeof(double));
  copy_to_device(memory.as<void>(), sums.data(), row * sizeof(double));
  const MomentsPartials<T> partials(std::min(wave, count), entries);
  partials.place(p);
  for (int64_t done = 0; done < count; done += wave) {
    p.segment0 = segment + done;
    p.units = std::min(wave, count - done);
    launch_moments(p);
    FoldPairsParams f = partials.folding(p.units, entries);
    f.pieces = pieces;
    f.first = std::min(first, p.units);
    f.continues = true;
    f.out = memory.as<double>();
    launch_fold(f);
  }
  copy_to_host(sums.data(), memory.as<void>(), all * sizeof(double));
  synchronize();
  for (int64_t i = 0, left = count - first; i < pieces; ++i) {
    if (i > 0) left -= moments.begin_segments(left);
    unpack(sums.data() + static_cast<size_t>(i) * row, moments);
  }
}

// Of one segment.
template <class T>
int64_t partials_bytes(const LinearArgs<T>& args) {
  return moments_entries(args.d, args.t) * (in_pairs<T> ? 16 : 8);
}

// In the innermost Scope; row_numbers: the device's, may be null.
template <class T>
void add_moments(const LinearArgs<T>& args, const int64_t* row_numbers, int64_t segment0,
                 int64_t segment1, Moments& moments) {
  MomentsParams<T> p = moments_params(args);
  p.all = rows_of_problem(args, row_numbers);
  p.longest = static_cast<int>(std::min(args.n, L<T>));
  const int64_t wave = std::max<int64_t>(1, wave_bytes / partials_bytes(args));
  for (int64_t segment = segment0; segment < segment1;) {
    const int64_t left = segment1 - segment, first = moments.begin_segments(left);
    const int64_t count = wave >= fan_in ? std::min(left, wave) : first;
    add_pieces(p, segment, count, first, wave, moments);
    segment += count;
  }
}

// Row numbers of problems that are lists of a table's rows, on the device.
template <class T>
class RowNumbers {
 public:
  RowNumbers(int64_t count, const ProblemRows<T>* problems) {
    size_t size = 0;
    bool follow = true;  // each other in memory, as one array
    for (int64_t i = 0; i < count; ++i) {
      const int64_t* const rows = problems[i].order.rows;
      if (!rows) continue;
      if (size == 0) first_ = rows;
      follow = follow && rows == first_ + size;
      size += static_cast<size_t>(problems[i].args.n);
    }
    if (size == 0) return;
    std::vector<int64_t> together;
    for (int64_t i = 0; !follow && i < count; ++i)
      if (const int64_t* const rows = problems[i].order.rows)
        together.insert(together.end(), rows, rows + problems[i].args.n);
    memory_.emplace(size * sizeof(int64_t));
    copy_to_device(memory_->as<void>(), follow ? first_ : together.data(), size * sizeof(int64_t));
  }
  // The next problem's; problems are asked for in their order.
  const int64_t* next(const ProblemRows<T>& problem) {
    if (!problem.order.rows || !memory_) return nullptr;
    const int64_t* const rows = memory_->as<int64_t>() + at_;
    at_ += problem.args.n;
    return rows;
  }

 private:
  const int64_t* first_ = nullptr;
  int64_t at_ = 0;
  std::optional<Memory> memory_;
};

// Whether one launch can serve both.
template <class T>
bool alike(const LinearArgs<T>& a, const LinearArgs<T>& b) {
  return a.d == b.d && a.t == b.t && a.X.rs == b.X.rs && a.X.cs == b.X.cs && a.y.rs == b.y.rs &&
         a.y.cs == b.y.cs && a.offset.rs == b.offset.rs && a.offset.cs == b.offset.cs &&
         a.sample_weight.stride == b.sample_weight.stride;
}

// Problems of at most 512 segments each, all alike.
template <class T>
class MomentsBatch {
 public:
  void add(const LinearArgs<T>& args, const int64_t* row_numbers, Moments* out) {
    if (out_.empty()) first_ = args;
    const MomentsUnit<T> all = rows_of_problem(args, row_numbers);
    begins_.push_back(static_cast<int64_t>(units_.size()));
    out_.push_back(out);
    for (int64_t begin = 0; begin < args.n; begin += L<T>) {
      MomentsUnit<T> unit = all;
      unit.count = std::min(L<T>, args.n - begin);
      longest_ = std::max(longest_, unit.count);
      if (row_numbers) {
        unit.row_numbers += begin;
      } else {
        unit.X += begin * args.X.rs;
        if (unit.y) unit.y += begin * args.y.rs;
        if (unit.offset) unit.offset += begin * args.offset.rs;
        if (unit.weight) unit.weight += begin * args.sample_weight.stride;
      }
      units_.push_back(unit);
    }
  }
  bool takes(const LinearArgs<T>& args) const {
    return out_.empty() || (alike(first_, args) && bytes(args) <= wave_bytes);
  }
  void run() {
    if (out_.empty()) return;
    const int64_t entries = moments_entries(first_.d, first_.t);
    const auto problems = static_cast<int64_t>(out_.size());
    const auto units = static_cast<int64_t>(units_.size());
    begins_.push_back(units);
    const Memory table(units_.size() * sizeof(MomentsUnit<T>));
    const Memory begins(begins_.size() * sizeof(int64_t));
    copy_to_device(table.as<void>(), units_.data(), units_.size() * sizeof(MomentsUnit<T>));
    copy_to_device(begins.as<void>(), begins_.data(), begins_.size() * sizeof(int64_t));
    const MomentsPartials<T> partials(units, entries);
    MomentsParams<T> p = moments_params(first_);
    p.units = units;
    p.table = table.as<MomentsUnit<T>>();
    p.longest = static_cast<int>(longest_);
    partials.place(p);
    launch_moments(p);

    const auto row = static_cast<size_t>(2 * entries);
    const Memory memory(row * out_.size() * sizeof(double));
    FoldPairsParams f = partials.folding(units, entries);
    f.pieces = problems;
    f.begins = begins.as<int64_t>();
    f.out = memory.as<double>();
    launch_fold(f);
    std::vector<double> sums(row * out_.size());
    copy_to_host(sums.data(), memory.as<void>(), sums.size() * sizeof(double));
    synchronize();
    for (size_t i = 0; i < out_.size(); ++i) unpack(sums.data() + i * row, *out_[i]);
    *this = {};
  }

 private:
  // Of the partials and sums, with one more problem.
  int64_t bytes(const LinearArgs<T>& args) const {
    const auto rows = static_cast<int64_t>(units_.size() + out_.size());
    return (rows + ceil_div(args.n, L<T>) + 1) * moments_entries(args.d, args.t) * 16;
  }

  LinearArgs<T> first_{};
  int64_t longest_ = 0;
  std::vector<MomentsUnit<T>> units_;
  std::vector<int64_t> begins_;
  std::vector<Moments*> out_;
};

}  // namespace

template <class T>
void moments(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, Moments& moments) {
  if (segment0 == segment1) return;
  const void* const rows = any_element(args);
  if (!rows) return host_device<T>().moments(args, segment0, segment1, moments);
  const Scope scope(home_of(rows));
  add_moments(args, nullptr, segment0, segment1, moments);
}

template <class T>
void moments_each(int64_t count, const ProblemRows<T>* problems, Moments* moments) {
  const void* rows = nullptr;
  for (int64_t i = 0; i < count; ++i) {
    moments[i].reset(problems[i].args.d, problems[i].args.t);
    if (!rows) rows = any_element(problems[i].args);
  }
  if (!rows) return host_device<T>().moments_each(count, problems, moments);
  const Scope scope(home_of(rows));
  RowNumbers<T> row_numbers(count, problems);
  MomentsBatch<T> batch;
  for (int64_t i = 0; i < count; ++i) {
    const LinearArgs<T>& args = problems[i].args;
    const int64_t* const numbers = row_numbers.next(problems[i]);
    const int64_t segments = ceil_div(args.n, L<T>);
    if (segments > fan_in || segments * partials_bytes(args) > wave_bytes) {
      add_moments(args, numbers, 0, segments, moments[i]);
      moments[i].close();
      continue;
    }
    if (!batch.takes(args)) batch.run();
    batch.add(args, numbers, &moments[i]);
  }
  batch.run();
}

#define GDCORE_INSTANTIATE(T)                                              \
  template void moments(const LinearArgs<T>&, int64_t, int64_t, Moments&); \
  template void moments_each(int64_t, const ProblemRows<T>*, Moments*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cuda
