// The three loops of the linear model's gradient: dot products of rows, residuals, X^T residual.
#pragma once

#include "contract.hpp"
#include "simd.hpp"

namespace {

using gdcore::L;

// acc[h] = fma(x, w, acc[h]) over the first n < 16 lanes.
template <class T>
inline void fma_first(index_t n, const T* x, const T* w, Lanes16<T>& acc) {
#pragma GCC unroll 8
  for (int h = 0; h < Lanes16<T>::H; ++h) {
    const index_t left = n - h * W<T>;
    if (left >= W<T>) {
      acc.h[h] = fma(load(x + h * W<T>), load(w + h * W<T>), acc.h[h]);
    } else if (left > 0) {
      const int lanes = static_cast<int>(left);
      acc.h[h] = keep_first(
          lanes, fma(load_first(x + h * W<T>, lanes), load_first(w + h * W<T>, lanes), acc.h[h]),
          acc.h[h]);
    }
  }
}

// R rows at once: 16 lanes over the features.
template <class T, int R>
inline void dot_wide(index_t k, const T* X, index_t ldx, const T* w, T* out) {
  constexpr int H = Lanes16<T>::H;
  for (index_t p0 = 0; p0 < k; p0 += L<T>) {
    const index_t len = k - p0 < L<T> ? k - p0 : L<T>;
    Lanes16<T> acc[R] = {};
    index_t p = 0;
    for (; p + 16 <= len; p += 16) {
#pragma GCC unroll 8
      for (int h = 0; h < H; ++h) {
        const vec<T> right = load(w + p0 + p + h * W<T>);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i)
          acc[i].h[h] = fma(load(X + i * ldx + p0 + p + h * W<T>), right, acc[i].h[h]);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      if (p < len) fma_first(len - p, X + i * ldx + p0 + p, w + p0 + p, acc[i]);
      const T sum = sum16(acc[i]);
      out[i] = p0 == 0 ? sum : out[i] + sum;
    }
  }
}

// k <= P <= 8: one vector holds N / P rows.
template <class T, int P>
inline vec<T> dot_vector(vec<T> x, vec<T> w) {
  vec<T> v = fma(x, w, vec<T>{});
  if constexpr (P > 4) v = add_distant<T, 4>(v);
  if constexpr (P > 2) v = add_distant<T, 2>(v);
  if constexpr (P > 1) v = add_distant<T, 1>(v);
  return gather<T, P>(v);
}

template <class T, int P>
void dot_narrow(index_t rows, const T* X, const T* w, T* out) {
  constexpr int N = W<T>;
  if constexpr (P <= N) {
    vec<T> right = {};
    for (int i = 0; i < N; ++i) right[i] = w[i % P];
    index_t i = 0;
    for (; i + N / P <= rows; i += N / P) {
      const vec<T> dots = dot_vector<T, P>(load(X + i * P), right);
      __builtin_memcpy(out + i, &dots, sizeof(T) * (N / P));
    }
    if (i < rows) {
      const int left = static_cast<int>(rows - i);
      store(out + i, dot_vector<T, P>(load_first(X + i * P, left * P), right));
    }
  } else {
    constexpr int parts = P / N;  // vectors of one row
    for (index_t i = 0; i < rows; ++i) {
      vec<T> v[parts];
      for (int q = 0; q < parts; ++q)
        v[q] = fma(load(X + i * P + q * N), load(w + q * N), vec<T>{});
      for (int half = parts / 2; half >= 1; half /= 2)
        for (int q = 0; q < half; ++q) v[q] += v[q + half];
      if constexpr (N > 2) v[0] = add_distant<T, 2>(v[0]);
      out[i] = add_distant<T, 1>(v[0])[0];
    }
  }
}

template <class T>
void dot_rows(index_t rows, index_t k, bool narrow, const T* X, index_t ldx, const T* w, T* out) {
  if (narrow) {
    if (k <= 1) return dot_narrow<T, 1>(rows, X, w, out);
    if (k <= 2) return dot_narrow<T, 2>(rows, X, w, out);
    if (k <= 4) return dot_narrow<T, 4>(rows, X, w, out);
    return dot_narrow<T, 8>(rows, X, w, out);
  }
  constexpr int R = Lanes16<T>::H >= 8 ? 1 : 8 / Lanes16<T>::H;
  index_t i = 0;
  for (; i + R <= rows; i += R) dot_wide<T, R>(k, X + i * ldx, ldx, w, out + i);
  for (; i < rows; ++i) dot_wide<T, 1>(k, X + i * ldx, ldx, w, out + i);
}

template <class T>
void residuals(index_t n, T* r, const T* intercept, const T* offset, const T* y,
               const T* sample_weight, T* squares, T* sums, bool first, bool last) {
  Lanes16<T> sq = {}, sum = {};
  if (!first) sq = load16(squares), sum = load16(sums);
  const vec<T> b = broadcast(intercept ? *intercept : T(0));
  for (index_t i = 0; i < n; i += 16) {
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const index_t at = i + h * W<T>, left = n - at;
      if (left <= 0) break;
      const int lanes = left < W<T> ? static_cast<int>(left) : W<T>;
      const bool whole = lanes == W<T>;
      const auto get = [&](const T* p) { return whole ? load(p + at) : load_first(p + at, lanes); };
      vec<T> v = load(r + at);
      if (intercept) v += b;
      if (offset) v += get(offset);
      v -= get(y);
      const vec<T> weighted = sample_weight ? get(sample_weight) * v : v;
      store(r + at, weighted);
      const vec<T> next_sq = fma(weighted, v, sq.h[h]), next_sum = sum.h[h] + weighted;
      sq.h[h] = whole ? next_sq : keep_first(lanes, next_sq, sq.h[h]);
      sum.h[h] = whole ? next_sum : keep_first(lanes, next_sum, sum.h[h]);
    }
  }
  if (last) {
    *squares = sum16(sq);
    *sums = sum16(sum);
  } else {
    store16(squares, sq);
    store16(sums, sum);
  }
}

// R rows at once, d >= 9: each entry is one chain over the rows.
template <class T, int R>
inline void grad_wide(index_t d, const T* X, index_t ldx, const T* r, T* grad, bool first) {
  vec<T> left[R];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) left[i] = broadcast(r[i]);
  index_t j = 0;
  for (; j + W<T> <= d; j += W<T>) {
    vec<T> g = first ? vec<T>{} : load(grad + j);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) g = fma(left[i], load(X + i * ldx + j), g);
    store(grad + j, g);
  }
  if (j < d) {
    const int lanes = static_cast<int>(d - j);
    vec<T> g = first ? vec<T>{} : load_first(grad + j, lanes);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) g = fma(left[i], load_first(X + i * ldx + j, lanes), g);
    store_first(grad + j, lanes, g);
  }
}

// d <= P <= 8: 16 / P interleaved chains, row i in lanes i mod (16 / P) * P and on.
template <class T, int P>
void grad_narrow(index_t rows, const T* X, const T* r, T* grad, bool first, bool last) {
  constexpr int H = Lanes16<T>::H, N = W<T>, together = 16 / P;
  Lanes16<T> acc = {};
  if (!first) acc = load16(grad);
  const auto residual_lanes = [&](index_t row) {  // r from `row` on, each P times
    if constexpr (P <= N) return spread<T, P>(load(r + row));
    return broadcast(r[row]);
  };
  index_t i = 0;
  for (; i + together <= rows; i += together) {
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h)
      acc.h[h] = fma(residual_lanes(i + h * N / P), load(X + i * P + h * N), acc.h[h]);
  }
#pragma GCC unroll 8
  for (int h = 0; h < H; ++h) {
    const index_t left = (rows - i) * P - h * N;
    if (left <= 0) break;
    const int lanes = left < N ? static_cast<int>(left) : N;
    const vec<T> next =
        fma(residual_lanes(i + h * N / P), load_first(X + i * P + h * N, lanes), acc.h[h]);
    acc.h[h] = keep_first(lanes, next, acc.h[h]);
  }
  if (last) fold_to<P>(acc);
  store16(grad, acc);
}

template <class T>
void grad_rows(index_t rows, index_t d, const T* X, index_t ldx, const T* r, T* grad, bool first,
               bool last) {
  if (d <= 1) return grad_narrow<T, 1>(rows, X, r, grad, first, last);
  if (d <= 2) return grad_narrow<T, 2>(rows, X, r, grad, first, last);
  if (d <= 4) return grad_narrow<T, 4>(rows, X, r, grad, first, last);
  if (d <= 8) return grad_narrow<T, 8>(rows, X, r, grad, first, last);
  index_t i = 0;
  for (; i + 8 <= rows; i += 8) grad_wide<T, 8>(d, X + i * ldx, ldx, r + i, grad, first && i == 0);
  for (; i < rows; ++i) grad_wide<T, 1>(d, X + i * ldx, ldx, r + i, grad, first && i == 0);
}

}  // namespace
