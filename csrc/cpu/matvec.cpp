#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"

namespace gdcore::cpu {
namespace {

constexpr int64_t dot_rows_at_once = 64;

// n = 1: a dot product a row, chunk by chunk of k. What does not lie as the kernel wants it is
// copied, a few rows of one chunk at a time.
template <class T>
void column(int64_t m, int64_t k, Matrix<const T> a, Vector<const T> b, Vector<T> c, T* packing) {
  const bool narrow = k <= 16 && (k <= 8 || a.rs == k);
  const bool b_in_place = b.stride == 1;
  const bool a_in_place = (a.cs == 1 || k == 1) && (!narrow || a.rs == k);
  T* const sums = packing;
  T* const packed_b = sums + dot_rows_at_once;
  T* const packed_a = packed_b + L<T>;
  const auto copy = [&](const T* from, int64_t stride, int64_t terms, T* to) {
    for (int64_t p = 0; p < terms; ++p) to[p] = from[p * stride];
  };
  if (k == 0) {
    for (int64_t i = 0; i < m; ++i) c.data[i * c.stride] = T(0);
    return;
  }
  for (int64_t p0 = 0; p0 < k; p0 += L<T>) {
    const int64_t terms = std::min(L<T>, k - p0);
    if (!b_in_place) copy(b.data + p0 * b.stride, b.stride, terms, packed_b);
    for (int64_t i0 = 0; i0 < m; i0 += dot_rows_at_once) {
      const int64_t rows = std::min(dot_rows_at_once, m - i0);
      const T* const x = a.data + i0 * a.rs + p0 * a.cs;
      if (!a_in_place)
        for (int64_t i = 0; i < rows; ++i) copy(x + i * a.rs, a.cs, terms, packed_a + i * terms);
      isa<T>().dot_rows(rows, terms, narrow, a_in_place ? x : packed_a, a_in_place ? a.rs : terms,
                        b_in_place ? b.data + p0 : packed_b, sums);
      for (int64_t i = 0; i < rows; ++i) {
        T& out = c.data[(i0 + i) * c.stride];
        out = p0 == 0 ? sums[i] : out + sums[i];
      }
    }
  }
}

template <class T>
int64_t matvec_packing() {
  return dot_rows_at_once + (1 + dot_rows_at_once) * L<T>;
}

thread_local Scratch scratch;

}  // namespace

template <class T>
void matvec(const MatmulArgs<T>& args) {
  int64_t problems = 1;
  for (int64_t size : args.batch) problems *= size;
  if (problems == 0 || args.m == 0) return;
  const double work = static_cast<double>(args.m) * static_cast<double>(args.k);
  const auto total = static_cast<int64_t>(std::min(work * static_cast<double>(problems), 0x1p62));

  // Many problems: whole ones to each thread. Few: the rows of each are cut.
  const int threads = threads_for(std::max(problems, args.m), total);
  const int64_t parts = problems >= 4 * threads ? 1 : threads;
  const int64_t per_thread = lines<T>(matvec_packing<T>());
  T* packing = scratch.reserve_as<T>(per_thread * threads);
  parallel_for(problems * parts, threads, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      Matrix<const T> a = args.a;
      Vector<const T> b{args.b.data, args.b.rs};
      Vector<T> c{args.c.data, args.c.rs};
      for (int64_t dim = static_cast<int64_t>(args.batch.size()), rest = task / parts; dim-- > 0;) {
        const auto axis = static_cast<size_t>(dim);
        const int64_t at = rest % args.batch[axis];
        rest /= args.batch[axis];
        a.data += at * args.a_batch[axis];
        b.data += at * args.b_batch[axis];
        c.data += at * args.c_batch[axis];
      }
      const int64_t i0 = args.m * (task % parts) / parts;
      const int64_t i1 = args.m * (task % parts + 1) / parts;
      a.data += i0 * a.rs;
      c.data += i0 * c.stride;
      column<T>(i1 - i0, args.k, a, b, c, packing + thread * per_thread);
    }
  });
}
template void matvec<float>(const MatmulArgs<float>&);
template void matvec<double>(const MatmulArgs<double>&);

}  // namespace gdcore::cpu
