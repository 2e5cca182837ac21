// The loops of the linear model: dot products of rows, residuals, X^T residual, in one pass.
#pragma once

#include "contract.hpp"
#include "simd.hpp"
#include "table.hpp"

namespace {

using gdcore::L;
using gdcore::LinearRows;

// Rows of X are asked for this long before they are read. Measured: 10 to 50 % on data larger than
// the caches, nothing lost on smaller ones.
constexpr index_t prefetch_bytes = 4096;

template <class T>
inline void prefetch(const T* p, index_t ahead) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + ahead);
}

inline int at_most(int most, index_t n) {
  return n < 0 ? 0 : n < most ? static_cast<int>(n) : most;
}

// ---- Residuals: 16 rows at a time, the sums in 16 lanes ----

template <class T>
struct Residuals {
  const T *intercept, *offset, *y, *sample_weight;
  vec<T> b;
  Lanes16<T> squares = {}, sums = {};

  explicit Residuals(const LinearRows<T>& x)
      : intercept(x.intercept),
        offset(x.offset),
        y(x.y),
        sample_weight(x.sample_weight),
        b(broadcast(x.intercept ? *x.intercept : T(0))) {}

  // v: products of rows at + h W and on. Returns weighted residuals; `lanes` of them are rows.
  template <bool Whole>
  inline vec<T> take(vec<T> v, index_t at, int h, int lanes) {
    at += h * W<T>;
    const auto get = [&](const T* p) { return Whole ? load(p + at) : load_first(p + at, lanes); };
    if (intercept) v += b;
    if (offset) v += get(offset);
    v -= get(y);
    const vec<T> weighted = sample_weight ? get(sample_weight) * v : v;
    const vec<T> square = fma(weighted, v, squares.h[h]), sum = sums.h[h] + weighted;
    squares.h[h] = Whole ? square : keep_first(lanes, square, squares.h[h]);
    sums.h[h] = Whole ? sum : keep_first(lanes, sum, sums.h[h]);
    return weighted;
  }
};

// ---- Up to 8 features: rows share a vector ----

// P lanes a row: one vector holds `rows` rows, or one row lies in `parts` vectors.
template <class T, int D>
struct Narrow {
  static constexpr int N = W<T>, P = static_cast<int>(gdcore::lanes_of(D));
  static constexpr int lanes = P < N ? P : N;  // of a row in one vector
  static constexpr int rows = N / lanes, parts = P / lanes;

  // Part q of the rows at x, of which there are at least `rows`.
  template <int Q>
  static inline vec<T> whole(const T* x) {
    constexpr int left = D - Q * N;
    if constexpr (D == P || left >= N)
      return load(x + Q * N);
    else if constexpr (parts > 1 || rows == 1)
      return load_first(x + Q * N, left > 0 ? left : 0);
    else
      return pad(load_first(x, rows * D));
  }
  // The same where only `left` rows are there.
  template <int Q>
  static inline vec<T> some(const T* x, index_t left) {
    if constexpr (parts > 1 || rows == 1)
      return load_first(x + Q * N, left > 0 ? at_most(N, D - Q * N) : 0);
    else
      return pad(load_first(x, at_most(rows, left) * D));
  }
  static inline vec<T> pad(vec<T> v) {
    if constexpr (D == P)
      return v;
    else
      return pad_rows<T, D, P>(v, typename CountLanes<N>::type());
  }

  vec<T> weights[parts];
  explicit Narrow(const T* w) {
    for (int q = 0; q < parts; ++q) {
      T lane[N];
      for (int i = 0; i < N; ++i) lane[i] = q * N + i % P < D ? w[q * N + i % P] : T(0);
      weights[q] = load(lane);
    }
  }

  // Products of N rows, `left` of them there.
  template <bool Whole>
  inline vec<T> dots(const T* x, index_t left) const {
    vec<T> v[lanes];
    unroll<lanes>([&](auto s) {
      constexpr int row = s.value * rows;
      vec<T> part[parts];
      unroll<parts>([&](auto q) {
        part[q.value] =
            fma(Whole ? whole<q.value>(x + row * D) : some<q.value>(x + row * D, left - row),
                weights[q.value], vec<T>{});
      });
      for (int half = parts / 2; half >= 1; half /= 2)
        for (int q = 0; q < half; ++q) part[q] += part[q + half];
      v[s.value] = part[0];
    });
    return row_sums<T, lanes>(v);
  }

  // acc += residuals times N rows, the rows h N and on of 16.
  template <bool Whole>
  static inline void add(const T* x, vec<T> residuals, int h, index_t left, Lanes16<T>& acc) {
    T r[N];
    if constexpr (rows == 1) store(r, residuals);
    unroll<lanes>([&](auto s) {
      constexpr int row = s.value * rows;
      vec<T> factor;
      if constexpr (rows == 1)
        factor = broadcast(r[row]);
      else
        factor = spread<T, lanes, s.value>(residuals);
      unroll<parts>([&](auto q) {
        vec<T>& sum = acc.h[((h * lanes + s.value) * parts + q.value) % Lanes16<T>::H];
        if constexpr (Whole) {
          sum = fma(factor, whole<q.value>(x + row * D), sum);
        } else {
          const vec<T> next = fma(factor, some<q.value>(x + row * D, left - row), sum);
          sum = keep_first(at_most(N, (left - row) * P - q.value * N), next, sum);
        }
      });
    });
  }
};

template <class T, int D, bool Whole>
inline void rows_narrow(const Narrow<T, D>& model, const T* X, index_t i, index_t rows,
                        Residuals<T>& residuals, Lanes16<T>& acc) {
#pragma GCC unroll 8
  for (int h = 0; h < Lanes16<T>::H; ++h) {
    const index_t row = i + h * W<T>, left = rows - row;
    if (!Whole && left <= 0) break;
    const T* const x = X + row * D;
    const vec<T> r = residuals.template take<Whole>(model.template dots<Whole>(x, left), i, h,
                                                    at_most(W<T>, left));
    Narrow<T, D>::template add<Whole>(x, r, h, left, acc);
  }
}

template <class T, int D>
void linear_narrow(const LinearRows<T>& x, Residuals<T>& residuals, T* grad) {
  const Narrow<T, D> model(x.weights);
  Lanes16<T> acc = {};
  Residuals<T> local = residuals;
  index_t i = 0;
  for (; i + 16 <= x.rows; i += 16) {
#pragma GCC unroll 16
    for (int line = 0; line < static_cast<int>(D * sizeof(T) / 4); ++line)
      prefetch(x.X + i * D, prefetch_bytes + line * 64);
    rows_narrow<T, D, true>(model, x.X, i, x.rows, local, acc);
  }
  if (i < x.rows) rows_narrow<T, D, false>(model, x.X, i, x.rows, local, acc);
  residuals = local;
  fold_to<Narrow<T, D>::P>(acc);
  T sums[16];
  store16(sums, acc);
  for (int j = 0; j < D; ++j) grad[j] = sums[j];
}

template <class T, int D>
void dot_narrow(index_t rows, const T* X, const T* w, T* out) {
  const Narrow<T, D> model(w);
  index_t i = 0;
  for (; i + W<T> <= rows; i += W<T>)
    store(out + i, model.template dots<true>(X + i * D, rows - i));
  if (i < rows)
    store_first(out + i, static_cast<int>(rows - i),
                model.template dots<false>(X + i * D, rows - i));
}

// ---- More: 16 lanes over the features ----

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

// R rows of at most L columns: lanes 8, 4, ... folded until one vector a row is left.
template <class T, int R>
inline void lanes_of_rows(index_t k, const T* X, index_t ldx, const T* w, index_t ahead,
                          vec<T>* out) {
  constexpr int H = Lanes16<T>::H;
  Lanes16<T> acc[R] = {};
  index_t p = 0;
  for (; p + 16 <= k; p += 16) {
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) {
      const vec<T> right = load(w + p + h * W<T>);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const T* const x = X + i * ldx + p + h * W<T>;
        if (h * W<T> * sizeof(T) % 64 == 0) prefetch(x, ahead);
        acc[i].h[h] = fma(load(x), right, acc[i].h[h]);
      }
    }
  }
  if (p < k) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const T* const x = X + i * ldx + p;
      prefetch(x, ahead);
      fma_first(k - p, x, w + p, acc[i]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    fold_to<W<T>>(acc[i]);
    out[i] = acc[i].h[0];
  }
}

// Registers hold this many rows' lanes at once.
template <class T>
constexpr int rows_at_once = (GDCORE_VECTOR_BYTES == 64 ? 16 : 8) / Lanes16<T>::H;

// Products of W rows with the weights, chunk by chunk of the columns.
template <class T>
inline vec<T> dots_wide(index_t k, const T* X, index_t ldx, const T* w, index_t ahead) {
  constexpr int N = W<T>, R = rows_at_once<T> < N ? rows_at_once<T> : N;
  vec<T> total = {};
  for (index_t p = 0; p < k; p += L<T>) {
    const index_t len = k - p < L<T> ? k - p : L<T>;
    vec<T> v[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; i += R)
      lanes_of_rows<T, R>(len, X + i * ldx + p, ldx, w + p, ahead, v + i);
    const vec<T> sums = row_sums<T, N>(v);
    total = p == 0 ? sums : total + sums;
  }
  return total;
}

template <class T>
inline T dot_wide(index_t k, const T* x, const T* w) {
  T total = 0;
  for (index_t p = 0; p < k; p += L<T>) {
    vec<T> v[1];
    lanes_of_rows<T, 1>(k - p < L<T> ? k - p : L<T>, x + p, 0, w + p, prefetch_bytes, v);
    const T sum = fold<T, 1>(v[0])[0];
    total = p == 0 ? sum : total + sum;
  }
  return total;
}

// R rows at once, d >= 9: each entry is one chain over the rows.
template <class T, int R>
inline void grad_wide(index_t d, const T* X, index_t ldx, const T* r, T* grad, bool first) {
  vec<T> left[R];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) left[i] = broadcast(r[i]);
  index_t j = 0;
  for (; j + 2 * W<T> <= d; j += 2 * W<T>) {
    vec<T> g = first ? vec<T>{} : load(grad + j), h = first ? vec<T>{} : load(grad + j + W<T>);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      g = fma(left[i], load(X + i * ldx + j), g);
      h = fma(left[i], load(X + i * ldx + j + W<T>), h);
    }
    store(grad + j, g);
    store(grad + j + W<T>, h);
  }
  for (; j < d; j += W<T>) {
    const int lanes = at_most(W<T>, d - j);
    vec<T> g = first ? vec<T>{} : load_first(grad + j, lanes);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) g = fma(left[i], load_first(X + i * ldx + j, lanes), g);
    store_first(grad + j, lanes, g);
  }
}

template <class T>
void linear_wide(const LinearRows<T>& x, Residuals<T>& residuals, T* grad, bool first) {
  constexpr int R = GDCORE_VECTOR_BYTES == 64 ? 16 : 8;
  const index_t block = static_cast<index_t>(sizeof(T)) * 16 * x.ldx;
  const index_t ahead = block > prefetch_bytes ? block : prefetch_bytes;
  index_t i = 0;
  for (; i + 16 <= x.rows; i += 16) {
    T r[16];
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const T* const X = x.X + (i + h * W<T>)*x.ldx;
      store(r + h * W<T>, residuals.template take<true>(
                              dots_wide<T>(x.d, X, x.ldx, x.weights, ahead), i, h, W<T>));
    }
    for (int s = 0; s < 16; s += R)
      grad_wide<T, R>(x.d, x.X + (i + s) * x.ldx, x.ldx, r + s, grad, first && i + s == 0);
  }
  if (i == x.rows) return;
  T r[16] = {};
  for (index_t s = 0; i + s < x.rows; ++s) r[s] = dot_wide(x.d, x.X + (i + s) * x.ldx, x.weights);
  for (int h = 0; h < Lanes16<T>::H && i + h * W<T> < x.rows; ++h)
    store(r + h * W<T>, residuals.template take<false>(load(r + h * W<T>), i, h,
                                                       at_most(W<T>, x.rows - i - h * W<T>)));
  for (index_t s = 0; i + s < x.rows; ++s)
    grad_wide<T, 1>(x.d, x.X + (i + s) * x.ldx, x.ldx, r + s, grad, first && i + s == 0);
}

// ---- Entries of the table ----

template <class T>
void dot_rows(index_t rows, index_t k, bool narrow, const T* X, index_t ldx, const T* w, T* out) {
  if (narrow) {
    switch (k) {
      case 1: return dot_narrow<T, 1>(rows, X, w, out);
      case 2: return dot_narrow<T, 2>(rows, X, w, out);
      case 3: return dot_narrow<T, 3>(rows, X, w, out);
      case 4: return dot_narrow<T, 4>(rows, X, w, out);
      case 5: return dot_narrow<T, 5>(rows, X, w, out);
      case 6: return dot_narrow<T, 6>(rows, X, w, out);
      case 7: return dot_narrow<T, 7>(rows, X, w, out);
      default: return dot_narrow<T, 8>(rows, X, w, out);
    }
  }
  const index_t block = static_cast<index_t>(sizeof(T)) * W<T> * ldx;
  const index_t ahead = block > prefetch_bytes ? block : prefetch_bytes;
  index_t i = 0;
  for (; i + W<T> <= rows; i += W<T>) store(out + i, dots_wide<T>(k, X + i * ldx, ldx, w, ahead));
  for (; i < rows; ++i) out[i] = dot_wide(k, X + i * ldx, w);
}

template <class T>
void residuals(index_t n, T* r, const T* offset, const T* y, const T* sample_weight, T* squares) {
  LinearRows<T> x{};
  x.offset = offset;
  x.y = y;
  x.sample_weight = sample_weight;
  Residuals<T> sums(x);
  for (index_t i = 0; i < n; i += 16) {
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const index_t at = i + h * W<T>;
      const int lanes = at_most(W<T>, n - at);
      if (lanes == W<T>)
        store(r + at, sums.template take<true>(load(r + at), i, h, lanes));
      else if (lanes > 0)
        store_first(r + at, lanes,
                    sums.template take<false>(load_first(r + at, lanes), i, h, lanes));
    }
  }
  *squares = sum16(sums.squares);
}

template <class T>
void linear_rows(const LinearRows<T>& x, T* grad, T* squares, T* sums, bool first, bool last) {
  Residuals<T> residuals(x);
  if (!first) residuals.squares = load16(squares), residuals.sums = load16(sums);
  switch (x.d) {
    case 1: linear_narrow<T, 1>(x, residuals, grad); break;
    case 2: linear_narrow<T, 2>(x, residuals, grad); break;
    case 3: linear_narrow<T, 3>(x, residuals, grad); break;
    case 4: linear_narrow<T, 4>(x, residuals, grad); break;
    case 5: linear_narrow<T, 5>(x, residuals, grad); break;
    case 6: linear_narrow<T, 6>(x, residuals, grad); break;
    case 7: linear_narrow<T, 7>(x, residuals, grad); break;
    case 8: linear_narrow<T, 8>(x, residuals, grad); break;
    default: linear_wide<T>(x, residuals, grad, first);
  }
  if (last) fold_to<1>(residuals.squares), fold_to<1>(residuals.sums);
  store16(squares, residuals.squares);
  store16(sums, residuals.sums);
}

}  // namespace
