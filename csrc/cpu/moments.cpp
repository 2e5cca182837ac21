// Second moments of the rows: one pass over X gives the sums that later epochs need.
#include <algorithm>
#include <atomic>
#include <type_traits>

#include "cpu/dispatch.hpp"
#include "cpu/moments_in_lanes.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"
#include "cpu/threads.hpp"
#include "double_double.hpp"

namespace gdcore::cpu {
namespace {

// The layout of a row [X 1 y - offset] in the panel and of one segment's sums: high parts, then,
// for float64 data, low parts. If [1 y] needed a vector of its own beside each column of X, with
// few lanes in use, X goes beside [1 y] instead: [1 y] are then extra rows, see ProductsArgs.
template <class T>
struct Layout {
  static constexpr bool pairs = std::is_same_v<T, double>;
  int64_t d, t, columns, ld;
  int64_t extra_rows, ones;  // 1 + t or 0; the column of ones
  int64_t rows;              // of products
  int64_t block;             // rows to read at a time: they stay in a cache until multiplied

  explicit Layout(const LinearArgs<T>& args)
      : d(args.d), t(args.t), columns(d + 1 + t), ld(lines<double>(columns)) {
    const bool beside = d > 0 && t > 0 && 1 + t <= most_extra_rows && ld > lines<double>(d);
    extra_rows = beside ? 1 + t : 0;
    ones = beside ? lines<double>(d) : d;
    rows = beside ? ones : t == 1 ? d + 2 : d + 1;
    // Short rows stay in a first cache. Long ones come in larger blocks, so that their many sums
    // are loaded and stored less often.
    constexpr int64_t doubles_in_first = 2304, doubles_in_second = 9216, short_row = 48;
    constexpr int64_t fewest = 64;
    block = ld > short_row ? std::max(doubles_in_second / ld, fewest) : doubles_in_first / ld;
    block = std::min(block, L<T>);
    block = std::min(args.n, block);
  }
  // Vectors of the last sums may read past them, into the squares or behind all slots.
  int64_t part() const { return (rows + extra_rows) * ld + lines<double>(t) * square_block; }
  int64_t slot() const { return (pairs ? 2 : 1) * part(); }
  int64_t panel() const { return (block + 1) * ld; }  // vectors may read past the last row

  // Squares of y are among the extra rows, or the last row for one target. Those of several targets
  // are the diagonals of small blocks.
  static constexpr int64_t square_block = 8;
  bool squares_apart() const { return extra_rows == 0 && t > 1; }
  int64_t square(int64_t u) const {
    if (!squares_apart()) return (rows + extra_rows - t + u) * ld + ones + 1 + u;
    const int64_t block = u / square_block * square_block;
    return rows * ld + block * square_block + u % square_block * (square_block + 1);
  }
};

// Reads one segment of rows [X 1 y - offset] in double, and sums their products.
template <class T>
class MomentsSegment {
 public:
  MomentsSegment(const LinearArgs<T>& args, const Layout<T>& layout, double* panel)
      : args_(args), at_(layout), panel_(panel) {
    std::fill(panel, panel + layout.panel(), 0.0);
    for (int64_t i = 0; i < layout.block; ++i) panel[i * layout.ld + layout.ones] = 1.0;
  }

  void run(int64_t segment, double* slot) {
    const int64_t begin = args_.first + segment * L<T>;
    const int64_t rows = std::min(L<T>, args_.n - segment * L<T>);
    for (int64_t i = 0; i < rows; i += at_.block) {
      const int64_t n = std::min(at_.block, rows - i);
      read(begin + i, n);
      isa<T>().products({n, at_.rows, at_.extra_rows > 0 ? at_.d : at_.columns, at_.ones,
                         at_.extra_rows, panel_, at_.ld, slot, at_.ld, at_.part(), i > 0,
                         next_rows(begin + i + n, n)});
      if (at_.squares_apart()) squares(n, slot, i > 0);
    }
  }

 private:
  void read(int64_t begin, int64_t n) {
    const auto from = [&](const Matrix<const T>& m) {
      return m.data ? m.data + begin * m.rs : nullptr;
    };
    const Vector<const T>& weight = args_.sample_weight;
    isa<T>().to_double({n, at_.d, at_.t, at_.ones, from(args_.X), args_.X.rs, args_.X.cs,
                        from(args_.y), args_.y.rs, args_.y.cs, from(args_.offset), args_.offset.rs,
                        args_.offset.cs,
                        weight.data ? weight.data + begin * weight.stride : nullptr, weight.stride,
                        panel_, at_.ld});
  }

  // The rows of the next block, to prefetch while this one is multiplied.
  PrefetchRange next_rows(int64_t row, int64_t n) const {
    constexpr int64_t size = sizeof(T);
    const bool dense = args_.X.cs == 1 && args_.X.rs < 2 * at_.d;
    return {reinterpret_cast<const char*>(args_.X.data + row * args_.X.rs),
            dense ? n * args_.X.rs * size : 0};
  }

  void squares(int64_t n, double* slot, bool resume) {
    constexpr int64_t few = Layout<T>::square_block;
    for (int64_t u = 0; u < at_.t; u += few) {
      const int64_t count = std::min(few, at_.t - u);
      isa<T>().products({n,
                         count,
                         count,
                         0,
                         0,
                         panel_ + at_.ones + 1 + u,
                         at_.ld,
                         slot + at_.square(u),
                         few,
                         at_.part(),
                         resume,
                         {}});
    }
  }

  const LinearArgs<T>& args_;
  const Layout<T>& at_;
  double* panel_;  // (block, ld)
};

// Adds the sums of `count` segments in turn to every row of the result.
template <class T>
class AddSegments {
 public:
  AddSegments(const Layout<T>& layout, const double* slots, int64_t count, Moments& out)
      : at_(layout), slots_(slots), count_(count), out_(out) {}

  int64_t rows() const { return at_.d + 1 + at_.t; }
  int64_t work() const { return count_ * at_.slot(); }
  void row(int64_t a) const {
    const int64_t d = at_.d, columns = at_.columns, extra = a - d;
    if (extra > 0) add(1, at_.square(extra - 1), (d + 1) * columns + extra - 1);
    if (at_.extra_rows == 0 && extra <= 0)
      return add(columns - a, a * at_.ld + a, a * (columns + 1));
    if (extra < 0) return add(d - a, a * at_.ld + a, a * (columns + 1));
    const int64_t from = (at_.rows + extra) * at_.ld;
    if (at_.extra_rows > 0) add(d, from, a, columns);
    if (extra == 0) add(at_.extra_rows, from + at_.ones, a * (columns + 1));
  }

 private:
  void add(int64_t n, int64_t from, int64_t to, int64_t stride = 1) const {
    isa<T>().add_sums({n, count_, slots_ + from, at_.slot(), at_.part(), out_.hi.data() + to,
                       out_.lo.data() + to, stride});
  }

  const Layout<T>& at_;
  const double* slots_;
  int64_t count_;
  Moments& out_;
};

constexpr int64_t slots_bytes = 4 << 20;  // sums of segments that are not added yet
constexpr int64_t grain_bytes = 1 << 15;  // bytes of sums that a thread computes at a time

thread_local Scratch scratch;

// In waves: threads fill slots, then the slots are added in the order of the segments.
template <class T>
void moments_by_rows(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, Moments& out) {
  const Layout<T> layout(args);
  const int64_t rows = std::min(args.n, segment1 * L<T>) - segment0 * L<T>;
  const Team threads = threads_for(segment1 - segment0,
                                   rows * (args.d + 1) * (layout.pairs ? 8 : 1) * layout.columns);
  const int64_t slot = layout.slot(), memory = padded_to_page<double>(layout.panel());
  const int64_t fitting =
      slots_bytes / static_cast<int64_t>(sizeof(double)) / slot / threads * threads;
  const int64_t slots =
      std::clamp<int64_t>(fitting, threads, std::max<int64_t>(threads, segment1 - segment0));
  double* const values =
      scratch.reserve_as<double>(padded_to_page<double>(slot * slots) + memory * threads);
  double* const space = values + padded_to_page<double>(slot * slots);
  const int64_t share = std::max<int64_t>(1, (segment1 - segment0 + threads - 1) / threads);
  const int64_t grain =
      std::clamp<int64_t>(grain_bytes / static_cast<int64_t>(sizeof(double)) / slot, 1, share);
  for (int64_t wave = segment0; wave < segment1; wave += slots) {
    const int64_t count = std::min(slots, segment1 - wave);
    std::atomic<int64_t> next{0};  // idle threads take the next one: other processes may use a core
    parallel_for(threads, threads, [&](int64_t, int64_t, int thread) {
      MomentsSegment<T> segment(args, layout, space + memory * thread);
      for (int64_t begin; (begin = grain * next++) < count;)
        for (int64_t c = begin; c < std::min(count, begin + grain); ++c)
          segment.run(wave + c, values + c * slot);
    });
    for (int64_t first = 0, n; first < count; first += n) {
      n = out.begin_segments(count - first);
      const AddSegments<T> sums(layout, values + first * slot, n, out);
      const Team adders = threads_for(sums.rows(), sums.work());
      parallel_for(sums.rows(), adders, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) sums.row(row);
      });
    }
  }
  scratch.trim();
}

}  // namespace

template <class T>
void moments(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, Moments& out) {
  int64_t begin = segment0;
  for (int64_t n; (n = segments_in_lanes(args, begin, segment1)) > 0; begin += n)
    moments_in_lanes(args, begin, begin + n, out);
  if (begin < segment1) moments_by_rows(args, begin, segment1, out);
}

template <class T>
double quadratic(const QuadraticArgs<T>& args, double* gradient) {
  return isa<T>().quadratic(args, gradient);
}

#define GDCORE_INSTANTIATE(T)                                                 \
  template void moments<T>(const LinearArgs<T>&, int64_t, int64_t, Moments&); \
  template double quadratic<T>(const QuadraticArgs<T>&, double*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
