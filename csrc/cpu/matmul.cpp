#include <algorithm>

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"

// The five loops of Goto and van de Geijn (2008), with KC = L so that a block of k is a chunk of
// the contract.
namespace gdcore::cpu {
namespace {

constexpr int64_t MC = 168;   // rows of a packed block of a: a multiple of every MR up to 14
constexpr int64_t NC = 2048;  // columns of a packed block of b
constexpr int64_t widest_MR = 16, widest_NR = 64;
constexpr int64_t dot_rows_at_once = 64;

template <class T>
int64_t packed_a_size(int64_t m, int64_t k) {
  return lines<T>((std::min(m, MC) + widest_MR) * std::min(k, L<T>));
}

// Panels of MR rows, k-major; the last one is padded with zero rows, which no result reads.
template <class T>
void pack_a(Matrix<const T> a, int64_t rows, int64_t k, int MR, T* out) {
  for (int64_t i0 = 0; i0 < rows; i0 += MR) {
    const int64_t n = std::min<int64_t>(MR, rows - i0);
    for (int64_t p = 0; p < k; ++p, out += MR)
      for (int64_t i = 0; i < MR; ++i) out[i] = i < n ? a.data[(i0 + i) * a.rs + p * a.cs] : T(0);
  }
}

// Panels of NR columns, k-major, padded likewise.
template <class T>
void pack_b(Matrix<const T> b, int64_t k, int64_t cols, int NR, T* out) {
  for (int64_t j0 = 0; j0 < cols; j0 += NR) {
    const int64_t n = std::min<int64_t>(NR, cols - j0);
    for (int64_t p = 0; p < k; ++p, out += NR) {
      const T* row = b.data + p * b.rs + j0 * b.cs;
      for (int64_t j = 0; j < n; ++j) out[j] = row[j * b.cs];
      for (int64_t j = n; j < NR; ++j) out[j] = T(0);
    }
  }
}

// Few rows: a and b are read where they lie, b's rows being contiguous.
template <class T>
void gemm_direct(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b,
                 Matrix<T> c) {
  const auto& table = isa<T>();
  for (int64_t p = 0; p < k; p += L<T>) {
    const int64_t kc = std::min(L<T>, k - p);
    for (int64_t j = 0; j < n; j += table.NR) {
      const int cols = static_cast<int>(std::min<int64_t>(table.NR, n - j));
      for (int64_t i = 0; i < m; i += table.MR)
        table.tile(kc, a.data + i * a.rs + p * a.cs, a.rs, a.cs, b.data + p * b.rs + j, b.rs,
                   c.data + i * c.rs + j, c.rs,
                   static_cast<int>(std::min<int64_t>(table.MR, m - i)), cols, p > 0);
    }
  }
}

template <class T>
void gemm_packed(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Matrix<T> c,
                 T* packing) {
  const auto& table = isa<T>();
  const int MR = table.MR, NR = table.NR;
  T* packed_a = packing;
  T* packed_b = packing + packed_a_size<T>(m, k);
  for (int64_t jc = 0; jc < n; jc += NC) {
    const int64_t nc = std::min(NC, n - jc);
    for (int64_t pc = 0; pc < k; pc += L<T>) {
      const int64_t kc = std::min(L<T>, k - pc);
      pack_b<T>({b.data + pc * b.rs + jc * b.cs, b.rs, b.cs}, kc, nc, NR, packed_b);
      for (int64_t ic = 0; ic < m; ic += MC) {
        const int64_t mc = std::min(MC, m - ic);
        pack_a<T>({a.data + ic * a.rs + pc * a.cs, a.rs, a.cs}, mc, kc, MR, packed_a);
        for (int64_t jr = 0; jr < nc; jr += NR)
          for (int64_t ir = 0; ir < mc; ir += MR)
            table.tile(kc, packed_a + ir * kc, 1, MR, packed_b + jr * kc, NR,
                       c.data + (ic + ir) * c.rs + jc + jr, c.rs,
                       static_cast<int>(std::min<int64_t>(MR, mc - ir)),
                       static_cast<int>(std::min<int64_t>(NR, nc - jr)), pc > 0);
      }
    }
  }
}

template <class T>
void zero(int64_t m, int64_t n, Matrix<T> c) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c.data[i * c.rs + j * c.cs] = T(0);
}

// n = 1: a dot product a row, chunk by chunk of k. What does not lie as the kernel wants it is
// copied, a few rows of one chunk at a time.
template <class T>
void matvec(int64_t m, int64_t k, Matrix<const T> a, Vector<const T> b, Vector<T> c, T* packing) {
  const bool narrow = k <= 8;
  const int64_t width = narrow ? lanes_of(k) : L<T>;
  const bool b_in_place = b.stride == 1 && (!narrow || width == k);
  const bool a_in_place = a.cs == 1 && (!narrow || (width == k && a.rs == k));
  T* const sums = packing;
  T* const packed_b = sums + dot_rows_at_once + 16;
  T* const packed_a = packed_b + lines<T>(width);
  const auto copy = [&](const T* from, int64_t stride, int64_t terms, int64_t wide, T* to) {
    for (int64_t p = 0; p < wide; ++p) to[p] = p < terms ? from[p * stride] : T(0);
  };
  for (int64_t p0 = 0; p0 < std::max<int64_t>(k, 1); p0 += L<T>) {
    const int64_t terms = std::min(L<T>, k - p0), wide = narrow ? width : terms;
    if (!b_in_place) copy(b.data + p0 * b.stride, b.stride, terms, wide, packed_b);
    for (int64_t i0 = 0; i0 < m; i0 += dot_rows_at_once) {
      const int64_t rows = std::min(dot_rows_at_once, m - i0);
      const T* const x = a.data + i0 * a.rs + p0 * a.cs;
      if (!a_in_place)
        for (int64_t i = 0; i < rows; ++i)
          copy(x + i * a.rs, a.cs, terms, wide, packed_a + i * wide);
      isa<T>().dot_rows(rows, terms, narrow, a_in_place ? x : packed_a, a_in_place ? a.rs : wide,
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
  return dot_rows_at_once + 16 + (1 + dot_rows_at_once) * L<T>;
}

template <class T>
struct Problem {
  int64_t m, n, k;
  Matrix<const T> a, b;
  Matrix<T> c;

  // One part of `parts`, along the longer side of c.
  Problem part(int64_t index, int64_t parts) const {
    Problem p = *this;
    if (m >= n) {
      const int64_t begin = m * index / parts;
      p.m = m * (index + 1) / parts - begin;
      p.a.data += begin * a.rs;
      p.c.data += begin * c.rs;
    } else {
      const int64_t begin = n * index / parts;
      p.n = n * (index + 1) / parts - begin;
      p.b.data += begin * b.cs;
      p.c.data += begin * c.cs;
    }
    return p;
  }
};

template <class T>
void solve(const Problem<T>& p, bool column, T* packing) {
  if (column)
    matvec<T>(p.m, p.k, p.a, {p.b.data, p.b.rs}, {p.c.data, p.c.rs}, packing);
  else
    gemm<T>(p.m, p.n, p.k, p.a, p.b, p.c, packing);
}

// Problem `index` of the batch.
template <class T>
Problem<T> problem_at(const MatmulArgs<T>& args, int64_t index) {
  Problem<T> p{args.m, args.n, args.k, args.a, args.b, args.c};
  for (size_t dim = args.batch.size(); dim-- > 0;) {
    const int64_t at = index % args.batch[dim];
    index /= args.batch[dim];
    p.a.data += at * args.a_batch[dim];
    p.b.data += at * args.b_batch[dim];
    p.c.data += at * args.c_batch[dim];
  }
  return p;
}

thread_local Scratch scratch;

}  // namespace

template <class T>
int64_t packing_size(int64_t m, int64_t n, int64_t k) {
  const int64_t side = std::max(m, n);  // either may become the rows
  return packed_a_size<T>(side, k) + (std::min(side, NC) + widest_NR) * std::min(k, L<T>);
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Matrix<T> c,
          T* packing) {
  if (m == 0 || n == 0) return;
  if (k == 0) return zero(m, n, c);
  if (c.cs != 1 && c.rs == 1) {  // c^T = b^T a^T: an element's chain is the same
    std::swap(m, n);
    std::swap(a, b);
    std::swap(a.rs, a.cs);
    std::swap(b.rs, b.cs);
    std::swap(c.rs, c.cs);
  }
  const bool direct = b.cs == 1 && (m <= isa<T>().MR || m * n * k <= 32 * 32 * 64);
  if (direct)
    gemm_direct(m, n, k, a, b, c);
  else
    gemm_packed(m, n, k, a, b, c, packing);
}

template <class T>
void matmul(const MatmulArgs<T>& args) {
  int64_t problems = 1;
  for (int64_t size : args.batch) problems *= size;
  if (problems == 0 || args.m == 0 || args.n == 0) return;
  const bool column = args.n == 1;
  const double work =
      static_cast<double>(args.m) * static_cast<double>(args.n) * static_cast<double>(args.k);
  const auto total = static_cast<int64_t>(std::min(work * static_cast<double>(problems), 0x1p62));

  // Many problems: whole ones to each thread. Few: each is cut along its longer side.
  const int threads = threads_for(std::max(problems, std::max(args.m, args.n)), total);
  const int64_t parts = problems >= 4 * threads ? 1 : threads;
  const int64_t per_thread =
      lines<T>(column ? matvec_packing<T>() : packing_size<T>(args.m, args.n, args.k));
  T* packing = scratch.reserve_as<T>(per_thread * threads);
  parallel_for(problems * parts, threads, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const Problem<T> whole = problem_at(args, task / parts);
      solve(parts == 1 ? whole : whole.part(task % parts, parts), column,
            packing + thread * per_thread);
    }
  });
  scratch.trim();
}

#define GDCORE_INSTANTIATE(T)                                                                   \
  template int64_t packing_size<T>(int64_t, int64_t, int64_t);                                  \
  template void gemm<T>(int64_t, int64_t, int64_t, Matrix<const T>, Matrix<const T>, Matrix<T>, \
                        T*);                                                                    \
  template void matmul<T>(const MatmulArgs<T>&);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore::cpu
