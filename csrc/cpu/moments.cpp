// Second moments of the rows: a pass over X that leaves what every later epoch needs.
#include <algorithm>
#include <type_traits>

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"
#include "double_double.hpp"

namespace gdcore::cpu {
namespace {

// One chunk's sums in memory: high parts, then, for float64 data, low parts.
template <class T>
struct Layout {
  static constexpr bool pairs = std::is_same_v<T, double>;
  int64_t d, t, columns, ld;
  int64_t block;  // rows that are read at once: few enough to stay in a cache until multiplied

  explicit Layout(const LinearArgs<T>& args)
      : d(args.d), t(args.t), columns(d + 1 + t), ld(lines<double>(columns)) {
    constexpr int64_t doubles_in_cache = 2048, fewest = 64;
    block = std::min(args.n, std::clamp<int64_t>(doubles_in_cache / ld, fewest, L<T>));
  }
  int64_t part() const { return (d + 1) * ld + std::max(ld, lines<double>(t) * squares_at_once); }
  int64_t slot() const { return (pairs ? 2 : 1) * part(); }
  int64_t panel() const { return (block + 1) * ld; }  // vectors may read past the last row

  // Squares of y lie on the diagonals of blocks of a few targets, that of one where its row would.
  static constexpr int64_t squares_at_once = 8;
  int64_t square(int64_t u) const {
    if (t == 1) return (d + 1) * ld + d + 1;
    return (d + 1) * ld + u / squares_at_once * squares_at_once * squares_at_once;
  }
};

// Reads one chunk of rows [X 1 y - offset] in double, and sums their products.
template <class T>
class MomentsChunk {
 public:
  MomentsChunk(const LinearArgs<T>& args, const Layout<T>& layout, double* panel)
      : args_(args), at_(layout), panel_(panel) {
    std::fill(panel, panel + layout.panel(), 0.0);
    for (int64_t i = 0; i < layout.block; ++i) panel[i * layout.ld + layout.d] = 1.0;
  }

  void run(int64_t chunk, double* slot) {
    const int64_t begin = args_.first + chunk * L<T>;
    const int64_t rows = std::min(L<T>, args_.n - chunk * L<T>);
    for (int64_t i = 0; i < rows; i += at_.block) {
      const int64_t n = std::min(at_.block, rows - i);
      read(begin + i, n);
      products(n, at_.t == 1 ? at_.d + 2 : at_.d + 1, at_.columns, 0, slot, at_.ld, i > 0);
      constexpr int64_t few = Layout<T>::squares_at_once;
      for (int64_t u = 0; at_.t > 1 && u < at_.t; u += few) {
        const int64_t count = std::min(few, at_.t - u);
        products(n, count, count, at_.d + 1 + u, slot + at_.square(u), few, i > 0);
      }
    }
  }

 private:
  void read(int64_t begin, int64_t n) {
    const auto from = [&](const Matrix<const T>& m) {
      return m.data ? m.data + begin * m.rs : nullptr;
    };
    const Vector<const T>& weight = args_.sample_weight;
    isa<T>().widen({n, at_.d, at_.t, from(args_.X), args_.X.rs, args_.X.cs, from(args_.y),
                    args_.y.rs, args_.y.cs, from(args_.offset), args_.offset.rs, args_.offset.cs,
                    weight.data ? weight.data + begin * weight.stride : nullptr, weight.stride,
                    panel_, at_.ld});
  }

  // Of n rows: the first m columns from `first` on, times the first `columns` from there on.
  void products(int64_t n, int64_t m, int64_t columns, int64_t first, double* out, int64_t ldc,
                bool resume) {
    isa<T>().products({n, m, columns, panel_ + first, at_.ld, out, ldc, at_.part(), resume});
  }

  const LinearArgs<T>& args_;
  const Layout<T>& at_;
  double* panel_;  // (block, ld)
};

template <class T>
void add_slot(const Layout<T>& at, const double* slot, Moments& out) {
  const int64_t low = at.part(), p = at.d + 1;
  const auto add_one = [&](int64_t to, int64_t from) {
    const auto i = static_cast<size_t>(to);
    const Pair sum = add({out.hi[i], out.lo[i]}, {slot[from], at.pairs ? slot[from + low] : 0.0});
    out.hi[i] = sum.hi;
    out.lo[i] = sum.lo;
  };
  for (int64_t a = 0; a < p; ++a)
    for (int64_t b = a; b < at.columns; ++b) add_one(a * at.columns + b, a * at.ld + b);
  for (int64_t u = 0; u < at.t; ++u) {
    const int64_t diagonal = u % at.squares_at_once * (at.squares_at_once + 1);
    add_one(p * at.columns + u, at.square(u) + diagonal);
  }
}

constexpr int64_t slots_bytes = 4 << 20;  // chunks' sums waiting for their turn

thread_local Scratch scratch;

}  // namespace

// In waves: threads fill slots, then the slots are added in the order of the chunks.
template <class T>
void moments(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, Moments& out) {
  const Layout<T> layout(args);
  const int64_t rows = std::min(args.n, chunk1 * L<T>) - chunk0 * L<T>;
  const int threads =
      threads_for(chunk1 - chunk0, rows * (args.d + 1) * (layout.pairs ? 8 : 1) * layout.columns);
  const int64_t slot = layout.slot(), memory = layout.panel();
  const int64_t fitting = slots_bytes / static_cast<int64_t>(sizeof(double)) / slot;
  const int64_t slots =
      std::clamp<int64_t>(fitting, threads, std::max<int64_t>(threads, chunk1 - chunk0));
  double* const values = scratch.reserve_as<double>(slot * slots + memory * threads);
  double* const space = values + slot * slots;
  for (int64_t wave = chunk0; wave < chunk1; wave += slots) {
    const int64_t count = std::min(slots, chunk1 - wave);
    parallel_for(count, threads, [&](int64_t begin, int64_t end, int thread) {
      MomentsChunk<T> chunk(args, layout, space + memory * thread);
      for (int64_t c = begin; c < end; ++c) chunk.run(wave + c, values + c * slot);
    });
    for (int64_t c = 0; c < count; ++c) add_slot(layout, values + c * slot, out);
  }
  scratch.trim();
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
