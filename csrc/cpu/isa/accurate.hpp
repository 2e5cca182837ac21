// Products in more than the data's precision, with bounds of their errors: chains over k of hi + lo
// (Dot2; Ogita, Rump, Oishi 2005) and of the magnitudes.
#pragma once

#include "pairs.hpp"
#include "table.hpp"

namespace {

inline vec<double> magnitude(vec<double> x) {
  typedef decltype(x < x) Bits;
  return (vec<double>)((Bits)x & INT64_MAX);
}

// Rows and vectors of a tile: each element takes a register for its magnitude beside its sum.
#if GDCORE_VECTOR_BYTES == 64 || defined(__ARM_NEON)
template <class T>
constexpr int accurate_rows = sizeof(T) == 4 ? 4 : 3;
template <class T>
constexpr int accurate_vectors = sizeof(T) == 4 ? 3 : 2;
#else
template <class T>
constexpr int accurate_rows = sizeof(T) == 4 ? 3 : 2;
template <class T>
constexpr int accurate_vectors = sizeof(T) == 4 ? 2 : 1;
#endif

template <class T, int R, int C>
inline void accurate_tile(const gdcore::AccurateBlock& x, index_t i, index_t j) {
  typedef typename SumOf<T, vec<double>>::type Sum;
  Sum sum[R][C] = {};
  vec<double> size[R][C] = {};
  int lanes[C];
  for (int c = 0; c < C; ++c) {
    const index_t left = x.n - j - c * W<double>;
    lanes[c] = left < W<double> ? static_cast<int>(left) : W<double>;
  }
  double* const out = x.hi + i * x.ldc + j;
  if (x.resume) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int c = 0; c < C; ++c) {
        double* const p = out + r * x.ldc + c * W<double>;
        read_first(sum[r][c], p, x.lo, lanes[c]);
        size[r][c] = load_first(p + x.size, lanes[c]);
      }
  }
  const double *a = x.a + i, *b = x.b + j;
  for (index_t p = 0; p < x.k; ++p, a += x.lda, b += x.ldb) {
    vec<double> right[C];
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) right[c] = load(b + c * W<double>);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const vec<double> left = broadcast(a[r]);
#pragma GCC unroll 3
      for (int c = 0; c < C; ++c) {
        sum[r][c] = add_product(sum[r][c], left, right[c]);
        size[r][c] = fma(magnitude(left), magnitude(right[c]), size[r][c]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) {
      double* const p = out + r * x.ldc + c * W<double>;
      write_first(p, x.lo, lanes[c], sum[r][c]);
      store_first(p + x.size, lanes[c], size[r][c]);
    }
}

template <class T, int R>
inline void accurate_rows_of(const gdcore::AccurateBlock& x, index_t i) {
  constexpr int most = accurate_vectors<T>;
  index_t j = 0;
  for (; x.n - j > (most - 1) * W<double>; j += most * W<double>)
    accurate_tile<T, R, most>(x, i, j);
  for (; j < x.n; j += W<double>) accurate_tile<T, R, 1>(x, i, j);
}

template <class T, int R>
inline void accurate_last(const gdcore::AccurateBlock& x, index_t i) {
  if (x.m - i == R) return accurate_rows_of<T, R>(x, i);
  if constexpr (R > 1) accurate_last<T, R - 1>(x, i);
}

template <class T>
void accurate(const gdcore::AccurateBlock& x) {
  constexpr int most = accurate_rows<T>;
  index_t i = 0;
  for (; x.m - i >= most; i += most) accurate_rows_of<T, most>(x, i);
  if (i < x.m) accurate_last<T, most>(x, i);
}

}  // namespace
