// Rows of data as rows of doubles.
#pragma once

#include "pack.hpp"
#include "table.hpp"
#include "vector.hpp"

namespace {

// As many numbers of type T as a vector of doubles has.
template <class T>
struct AsManyOf {
  typedef T type __attribute__((vector_size(W<double> * sizeof(T))));
  typedef T loose
      __attribute__((vector_size(W<double> * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <class T>
using as_many = typename AsManyOf<T>::type;

// gcc 12 converts half a vector of 64 bytes at a time, and warns of intrinsics without a mask.
template <class T>
inline vec<double> to_double(as_many<T> x) {
#if GDCORE_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return (vec<double>)_mm512_maskz_cvtps_pd(-1, (__m256)x);
#endif
  return __builtin_convertvector(x, vec<double>);
}
template <class T>
inline as_many<T> from_double(vec<double> x) {
#if GDCORE_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return (as_many<T>)_mm512_maskz_cvtpd_ps(-1, (__m512d)x);
#endif
  return __builtin_convertvector(x, as_many<T>);
}

template <class T>
inline vec<double> load_as_double(const T* p) {
  return to_double<T>(*reinterpret_cast<const typename AsManyOf<T>::loose*>(p));
}
#if GDCORE_VECTOR_BYTES == 64
// The first n of them; further lanes are 0.
inline vec<double> load_first_as_double(const float* p, int n) {
  accessed(p, n);
  return to_double<float>((as_many<float>)_mm256_maskz_loadu_ps((__mmask8)((1u << n) - 1), p));
}
#endif
template <class T>
inline void store_from_double(T* p, vec<double> x) {
  *reinterpret_cast<typename AsManyOf<T>::loose*>(p) = from_double<T>(x);
}

// Without this the compiler vectorizes the short loops below as if they were long.
inline void no_vectorize() { asm volatile(""); }

template <class T>
inline void column_to_double(index_t rows, const T* x, index_t stride, double* out, index_t ld) {
#pragma GCC unroll 4
  for (index_t i = 0; i < rows; ++i, no_vectorize()) out[i * ld] = x[i * stride];
}

template <class T, int C>
inline void block_to_double(const gdcore::ToDoubleArgs<T>& x, index_t j) {
  const T* from = x.X + j;
  double* to = x.out + j;
  const index_t rows = x.rows, step = x.X_rs, ld = x.ld;
#pragma GCC unroll 4
  for (index_t i = 0; i < rows; ++i, from += step, to += ld) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) store(to + c * W<double>, load_as_double(from + c * W<double>));
  }
}

// W features from j on, each contiguous in memory.
template <class T>
inline void transposed_to_double(const gdcore::ToDoubleArgs<T>& x, index_t j) {
  constexpr int N = W<double>;
  const T* from = x.X + j * x.X_cs;
  double* to = x.out + j;
  const index_t whole = x.rows / N * N;
  for (index_t i = 0; i < whole; i += N, from += N, to += N * x.ld) {
    vec<double> rows[N];
#pragma GCC unroll 8
    for (int c = 0; c < N; ++c) rows[c] = load_as_double(from + c * x.X_cs);
    transpose_block<double, N>(rows);
#pragma GCC unroll 8
    for (int r = 0; r < N; ++r) store(to + r * x.ld, rows[r]);
  }
  for (int c = 0; c < N; ++c)
    column_to_double(x.rows - whole, from + c * x.X_cs, x.X_rs, to + c, x.ld);
}

// Rows [X 1 y - offset] in double, times the roots of their weights; without weights the column of
// ones is there already.
template <class T>
void to_double(const gdcore::ToDoubleArgs<T>& x) {
  const index_t rows = x.rows, ld = x.ld;
  const bool together = x.X_cs == 1 || x.X_rs == 1;
  const index_t whole = together ? x.d / W<double> * W<double> : 0;
  // Two vectors of each row at a time: a line of X, and no loop for a row.
  constexpr index_t few = 2 * W<double>;
  index_t j = 0;
  if (x.X_cs == 1)
    for (; whole - j >= few; j += few) block_to_double<T, 2>(x, j);
  for (; j < whole; j += W<double>)
    x.X_cs == 1 ? block_to_double<T, 1>(x, j) : transposed_to_double(x, j);
  for (; j < x.d; ++j) column_to_double(rows, x.X + j * x.X_cs, x.X_rs, x.out + j, ld);
  double* z = x.out + x.ones;
  for (index_t u = 0; u < x.t; ++u) {
    ++z;
    column_to_double(rows, x.y + u * x.y_cs, x.y_rs, z, ld);
    if (!x.offset) continue;
    const T* const offset = x.offset + u * x.offset_cs;
    for (index_t i = 0; i < rows; ++i, no_vectorize()) z[i * ld] -= offset[i * x.offset_rs];
  }
  if (!x.weight) return;
  double* row = x.out;
  for (index_t i = 0; i < rows; ++i, row += ld) {
    const vec<double> root =
        broadcast(__builtin_sqrt(static_cast<double>(x.weight[i * x.weight_stride])));
    for (index_t j = 0; j < ld; j += W<double>) store(row + j, root * load(row + j));
    row[x.ones] = root[0];
  }
}

}  // namespace
