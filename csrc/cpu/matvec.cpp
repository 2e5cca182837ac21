#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/gemm.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"
#include "cpu/threads.hpp"

namespace gdcore::cpu {
namespace {

constexpr int64_t row_block = 64;

// The layout of an a (m,k), and the memory its products take.
template <class T>
struct Layout {
  int64_t k;                         // or chain_terms, if there are more
  bool row_vectors, column_vectors;  // in place: rows or columns are contiguous
  bool copy_b, copy_c;

  explicit Layout(const MatmulArgs<T>& args)
      : k(std::min(args.k, chain_terms<T>)),
        row_vectors((args.a.cs == 1 || k == 1) && (k > 8 || args.a.rs == k || args.m == 1)),
        column_vectors(!row_vectors && (args.a.rs == 1 || args.m == 1)),
        copy_b(args.b.rs != 1 && k != 1),
        copy_c((args.c.rs != 1 && args.m != 1) || k > L<T>) {}

  int64_t rows_of_block(int64_t m) const {
    const bool copy_a = !row_vectors && !column_vectors;
    return copy_c || copy_a ? std::min(m, row_block) : m;
  }
  int64_t packing() const {
    const bool copy_a = !row_vectors && !column_vectors;
    const int64_t terms = std::min(k, L<T>);
    return lines<T>((copy_c ? row_block : 0) + (copy_b ? terms : 0)) +
           (copy_a ? row_block * terms : 0);
  }
};

// n = 1: a dot product a row, `length` <= chain_terms terms of it, segment by segment. Operands in
// other layouts are copied, a few rows of one segment at a time.
template <class T>
void column(const Layout<T>& layout, int64_t m, int64_t length, Matrix<const T> a,
            Vector<const T> b, Vector<T> c, T* packing) {
  const auto& kernels = isa<T>();
  const int64_t k = layout.k, block = layout.rows_of_block(m), lanes = lanes_of(k);
  const bool has_few_features = k <= 8 || (k <= 16 && a.rs == k);
  if (k == 0) {
    for (int64_t i = 0; i < m; ++i) c.data[i * c.stride] = T(0);
    return;
  }
  T* const sums = packing;
  T* const packed_b = sums + (layout.copy_c ? row_block : 0);
  T* const packed_a = packed_b + (layout.copy_b ? std::min(k, L<T>) : 0);
  for (int64_t p0 = 0; p0 < length; p0 += L<T>) {
    const int64_t terms = std::min(L<T>, length - p0);
    const T* w = b.data + p0 * b.stride;
    if (layout.copy_b) {
      for (int64_t p = 0; p < terms; ++p) packed_b[p] = w[p * b.stride];
      w = packed_b;
    }
    for (int64_t i0 = 0; i0 < m; i0 += block) {
      const int64_t rows = std::min(block, m - i0);
      const T* const x = a.data + i0 * a.rs + p0 * a.cs;
      T* const out = layout.copy_c ? sums : c.data + i0;
      if (layout.row_vectors) {
        kernels.dot_rows(rows, terms, has_few_features, x, a.rs, w, out);
      } else if (layout.column_vectors) {
        kernels.dot_columns(rows, terms, lanes, x, a.cs, w, out);
      } else {
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t p = 0; p < terms; ++p) packed_a[i * terms + p] = x[i * a.rs + p * a.cs];
        kernels.dot_rows(rows, terms, k <= 16, packed_a, terms, w, out);
      }
      if (!layout.copy_c) continue;
      for (int64_t i = 0; i < rows; ++i) {
        T& sum = c.data[(i0 + i) * c.stride];
        sum = p0 == 0 ? sums[i] : sum + sums[i];
      }
    }
  }
}

// Any k: the sums of parts that are one chain, or parts of those, added in `c`. `spare` has m
// elements for each level of parts.
template <class T>
void long_column(const Layout<T>& layout, int64_t m, int64_t k, Matrix<const T> a,
                 Vector<const T> b, Vector<T> c, T* packing, T* spare) {
  if (k <= chain_terms<T>) return column<T>(layout, m, k, a, b, c, packing);
  const int64_t part = part_of<T>(k);
  for (int64_t p = 0; p < k; p += part) {
    const Vector<T> out = p == 0 ? c : Vector<T>{spare, 1};
    long_column<T>(layout, m, std::min(part, k - p), {a.data + p * a.cs, a.rs, a.cs},
                   {b.data + p * b.stride, b.stride}, out, packing, spare + m);
    for (int64_t i = 0; p > 0 && i < m; ++i) c.data[i * c.stride] += spare[i];
  }
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
  const Team threads = threads_for(std::max(problems, args.m), total);
  const int64_t parts = problems >= 4 * threads ? 1 : threads;
  const Layout<T> layout(args);
  const int64_t packing_size = lines<T>(layout.packing());
  const int64_t per_thread =
      padded_to_page<T>(packing_size + levels_of_parts<T>(args.k) * ceil_div(args.m, parts));
  T* packing = scratch.reserve_as<T>(per_thread * threads);
  parallel_for(problems * parts, threads, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t problem = task / parts;
      Matrix<const T> a = args.a;
      Vector<const T> b{args.b.data + offset_of(problem, args.batch, args.b_batch), args.b.rs};
      Vector<T> c{args.c.data + offset_of(problem, args.batch, args.c_batch), args.c.rs};
      a.data += offset_of(problem, args.batch, args.a_batch);
      const int64_t i0 = args.m * (task % parts) / parts;
      const int64_t i1 = args.m * (task % parts + 1) / parts;
      a.data += i0 * a.rs;
      c.data += i0 * c.stride;
      T* const own = packing + thread * per_thread;
      long_column<T>(layout, i1 - i0, args.k, a, b, c, own, own + packing_size);
    }
  });
}
template void matvec<float>(const MatmulArgs<float>&);
template void matvec<double>(const MatmulArgs<double>&);

}  // namespace gdcore::cpu
