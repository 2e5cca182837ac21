// Second moments of as many segments as a vector of doubles has lanes: a lane is a segment.
#pragma once

#include "moments.hpp"
#include "to_double.hpp"

namespace {

// Features of a tile, and those beside it: the sums of all their products stay in registers.
template <class T>
constexpr int features_of_tile = sizeof(T) == 8       ? 2
                                 : accumulators == 24 ? 4
                                                      : 3;
template <class T>
constexpr int features_beside = sizeof(T) == 4 ? features_of_tile<T> : accumulators / 6;

// Up to which lanes are faster than a row at a time: with few features vectors of them are not
// full, with many the sums of all lanes are far more than a cache holds.
template <class T>
constexpr int most_segment_features =
    sizeof(T) == 8 ? (W<double> == 8 ? 64 : 32) : (W<double> == 8 ? 24 : 4);

// Transposes N vectors of N numbers.
template <class V, int N, int H, int... I>
inline void swap_parts(V& a, V& b, Indices<I...>) {
  const V upper = shuffle_of(a, b, Indices<((I & H) ? I - H + N : I)...>());
  b = shuffle_of(a, b, Indices<((I & H) ? I + N : I + H)...>());
  a = upper;
}
template <class V, int N, int H = N / 2>
inline void transpose_any(V* rows) {
  if constexpr (H > 0) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i)
      if (!(i & H)) swap_parts<V, N, H>(rows[i], rows[i + H], typename FirstIndices<N>::type());
    transpose_any<V, N, H / 2>(rows);
  }
}

// Turns `count` numbers of each segment, contiguous and a multiple of W, into vectors of one number
// a segment. Prefetches those `ahead`.
template <class T>
inline void turn_segments(index_t count, const T* x, index_t step, index_t ahead, double* out) {
  constexpr int N = W<double>;
  for (index_t k = 0; k < count; k += N, x += N, out += N * N) {
    as_many<T> number[N];
#pragma GCC unroll 8
    for (int l = 0; l < N; ++l) {
      number[l] = *reinterpret_cast<const typename AsManyOf<T>::loose*>(x + l * step);
      __builtin_prefetch(x + l * step + ahead, 0, 2);
    }
    transpose_any<as_many<T>, N>(number);
#pragma GCC unroll 8
    for (int q = 0; q < N; ++q) store(out + q * N, to_double<T>(number[q]));
  }
}

// Rows of all segments from row `begin` on.
template <class T>
inline void turn_rows(const gdcore::SegmentsArgs<T>& x, index_t begin) {
  constexpr index_t N = W<double>, length = gdcore::L<T>;
  // The rows that are read next, be they those of the next segments.
  const index_t next = begin + x.rows < length ? x.rows : N * length - begin;
  turn_segments(x.rows * x.d, x.X + begin * x.d, length * x.d, next * x.d, x.panel);
  turn_segments(x.rows, x.y + begin, length, next, x.panel + x.rows * x.d * N);
}

// The sums of features, from a on, times others, from b on.
template <class T, int R, int C>
inline void segments_tile(const gdcore::SegmentsArgs<T>& x, bool resume, index_t a, index_t b) {
  constexpr int N = W<double>;
  typename SumOf<T, vec<double>>::type sum[R][C] = {};
  const auto each = [&](auto&& f) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) f(sum[r][c], x.sums + ((a + r) * (x.d + 2) + b + c) * N);
  };
  if (resume) each([&](auto& one, const double* at) { read(one, at, x.low_sums); });
  const double *left = x.panel + a * N, *right = x.panel + b * N;
  for (index_t i = 0; i < x.rows; ++i, left += x.d * N, right += x.d * N) {
    vec<double> z[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) z[c] = load(right + c * N);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const vec<double> factor = load(left + r * N);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) sum[r][c] = add_product_fast(sum[r][c], factor, z[c]);
    }
  }
  each([&](const auto& one, double* at) { write(at, x.low_sums, one); });
}

// Those of R features, from a on, times themselves, 1 and y; of y times 1 and y if they are last.
template <class T, int R, bool Last>
inline void segments_diagonal(const gdcore::SegmentsArgs<T>& x, bool resume, index_t a) {
  constexpr int N = W<double>, all = R + Last;
  typename SumOf<T, vec<double>>::type sum[all][R + 2] = {};
  const auto each = [&](auto&& f) __attribute__((always_inline)) {
#pragma GCC unroll 5
    for (int r = 0; r < all; ++r) {
      double* const row = x.sums + (r < R ? a + r : x.d + 1) * (x.d + 2) * N;
#pragma GCC unroll 6
      for (int c = r; c < R + 2; ++c) f(sum[r][c], row + (c < R ? a + c : x.d + c - R) * N);
    }
  };
  if (resume) each([&](auto& one, const double* at) { read(one, at, x.low_sums); });
  const double *features = x.panel + a * N, *y = x.panel + x.rows * x.d * N;
  for (index_t i = 0; i < x.rows; ++i, features += x.d * N, y += N) {
    vec<double> z[R + 1];
#pragma GCC unroll 4
    for (int c = 0; c < R; ++c) z[c] = load(features + c * N);
    z[R] = load(y);
#pragma GCC unroll 5
    for (int r = 0; r < all; ++r) {
#pragma GCC unroll 4
      for (int c = r; c < R; ++c) sum[r][c] = add_product_fast(sum[r][c], z[r], z[c]);
      sum[r][R] = add_number(sum[r][R], z[r]);
      sum[r][R + 1] = add_product_fast(sum[r][R + 1], z[r], z[R]);
    }
  }
  each([&](const auto& one, double* at) { write(at, x.low_sums, one); });
}

// All sums of features from a on, R or fewer, with the columns behind them.
template <class T, int R, int C>
inline void segments_beside(const gdcore::SegmentsArgs<T>& x, bool resume, index_t a, index_t b) {
  for (; x.d - b >= C; b += C) segments_tile<T, R, C>(x, resume, a, b);
  if constexpr (C > 1)
    if (b < x.d) segments_beside<T, R, C - 1>(x, resume, a, b);
}
template <class T, int R>
inline void segments_features(const gdcore::SegmentsArgs<T>& x, bool resume, index_t a) {
  if constexpr (R > 1)
    if (x.d - a < R) return segments_features<T, R - 1>(x, resume, a);
  if (a + R == x.d) return segments_diagonal<T, R, true>(x, resume, a);
  segments_diagonal<T, R, false>(x, resume, a);
  segments_beside<T, R, features_beside<T>>(x, resume, a, a + R);
}

// The sums of each segment one after the other, as in Moments: those of (d + 1, d + 2), then that
// of y squared.
inline void unload_segments(index_t d, double ones, double* sums, double* out, index_t step) {
  constexpr int N = W<double>;
  const index_t count = (d + 1) * (d + 2) + 1;
  double *const ones_place = sums + d * (d + 3) * N, *const of_y = sums + (count - 1) * N;
  const vec<double> sum_of_y = load(of_y + d * N), squares = load(of_y + (d + 1) * N);
  store(ones_place, broadcast(ones));
  store(ones_place + N, sum_of_y);
  store(of_y, squares);
  for (index_t e = 0; e < count; e += N) {
    vec<double> sum[N];
#pragma GCC unroll 8
    for (int q = 0; q < N; ++q) sum[q] = load(sums + (e + q) * N);
    transpose_any<vec<double>, N>(sum);
#pragma GCC unroll 8
    for (int l = 0; l < N; ++l) store(out + l * step + e, sum[l]);
  }
}

template <class T>
void segments(const gdcore::SegmentsArgs<T>& given) {
  const gdcore::SegmentsArgs<T> x = given;
  constexpr index_t length = gdcore::L<T>;
  for (index_t begin = 0; begin < length; begin += x.rows) {
    turn_rows(x, begin);
    for (index_t a = 0; a < x.d; a += features_of_tile<T>)
      segments_features<T, features_of_tile<T>>(x, begin > 0, a);
  }
  unload_segments(x.d, static_cast<double>(length), x.sums, x.out, x.step);
  if (sizeof(T) == 8) unload_segments(x.d, 0.0, x.sums + x.low_sums, x.out + x.low, x.step);
}

}  // namespace
