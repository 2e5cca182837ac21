// The linear model of more than 16 features: 16 lanes over them.
#pragma once

#include "fold.hpp"
#include "residuals.hpp"
#include "rows.hpp"

namespace {

// How many rows are read side by side, and whether lines ahead are asked for meanwhile.
template <int Rows, bool Ahead>
struct Side {
  static constexpr int rows = Rows;
  static constexpr bool ahead = Ahead;
};

// R rows of at most L columns: lanes 8, 4, ... folded until one vector a row is left. Meanwhile as
// many lines from `next` on are prefetched.
template <class T, int R, bool Ahead>
inline void lanes_of_rows(index_t k, const T* X, index_t ldx, const T* w, const T*& next,
                          vec<T>* out) {
  constexpr int H = Lanes16<T>::H, line = 64 / static_cast<int>(sizeof(T));
  RowPointers<T, R> x(X, ldx);
  Lanes16<T> acc[R] = {};
  index_t p = 0;
  for (; p + 16 <= k; p += 16, x.move(16), next += 16 * R) {
#pragma GCC unroll 32
    for (int at = 0; Ahead && at < 16 * R; at += line) prefetch(next + at, 0);
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) {
      const vec<T> right = load(w + p + h * W<T>);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) acc[i].h[h] = fma(load(x.row(i) + h * W<T>), right, acc[i].h[h]);
    }
  }
  if (p < k) {
#pragma GCC unroll 32
    for (int at = 0; Ahead && at < 16 * R; at += line) prefetch(next + at, 0);
    next += (k - p) * R;
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) {
      const index_t left = k - p - h * W<T>;
      if (left <= 0) break;
      const int lanes = at_most(W<T>, left);
      const vec<T> right = load_first(w + p + h * W<T>, lanes);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i)
        acc[i].h[h] = keep_first(
            lanes, fma(load_first(x.row(i) + h * W<T>, lanes), right, acc[i].h[h]), acc[i].h[h]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    fold_to<W<T>>(acc[i]);
    out[i] = acc[i].h[0];
  }
}

// The rows whose lanes fit into registers.
template <class T>
constexpr int rows_in_registers = (GDCORE_VECTOR_BYTES == 64 ? 16 : 8) / Lanes16<T>::H;

template <class T>
using Ahead = Side<rows_in_registers<T>, true>;

template <class T>
vec<T> dots_of_parts(index_t k, const T* X, index_t ldx, const T* w, index_t ahead);

// Products of N rows with the weights, segment by segment of the columns: lane i has that of row
// i mod N.
template <class T, class S = Ahead<T>, int N = W<T>>
inline vec<T> dot_block(index_t k, const T* X, index_t ldx, const T* w, index_t ahead) {
  constexpr int R = S::rows < N ? S::rows : N;
  if constexpr (S::ahead)
    if (k > gdcore::chain_terms<T>) return dots_of_parts<T>(k, X, ldx, w, ahead);
  const T* next = X + ahead;
  vec<T> total = {};
  for (index_t p = 0; p < k; p += L<T>) {
    const index_t len = k - p < L<T> ? k - p : L<T>;
    vec<T> v[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; i += R)
      lanes_of_rows<T, R, S::ahead>(len, X + i * ldx + p, ldx, w + p, next, v + i);
    const vec<T> sums = repeated_row_sums<T, N>(v);
    total = p == 0 ? sums : total + sums;
  }
  return total;
}

// gdcore::part_of, which this file may not call: the linker could take it from here.
template <class T>
index_t part_of_sum(index_t terms) {
  index_t part = gdcore::chain_terms<T>;
  for (size_t level = 2; level < gdcore::sum_levels && (terms - 1) / part >= gdcore::fan_in;
       ++level)
    part *= gdcore::fan_in;
  return part;
}

// The same for any k.
template <class T>
[[gnu::noinline]] vec<T> dots_of_parts(index_t k, const T* X, index_t ldx, const T* w,
                                       index_t ahead) {
  const index_t part = part_of_sum<T>(k);
  vec<T> total = {};
  for (index_t p = 0; p < k; p += part) {
    const vec<T> sums = dot_block<T>(k - p < part ? k - p : part, X + p, ldx, w + p, ahead);
    total = p == 0 ? sums : total + sums;
  }
  return total;
}

template <class T, int R>
void few_dots_of_parts(index_t k, const T* X, index_t ldx, const T* w, T* out);

// The same for R < W rows.
template <class T, int R>
inline void dots_few(index_t k, const T* X, index_t ldx, const T* w, T* out) {
  if (k > gdcore::chain_terms<T>) return few_dots_of_parts<T, R>(k, X, ldx, w, out);
  const T* next = X + prefetch_bytes / static_cast<index_t>(sizeof(T));
  for (index_t p = 0; p < k; p += L<T>) {
    vec<T> v[R];
    lanes_of_rows<T, R, true>(k - p < L<T> ? k - p : L<T>, X + p, ldx, w + p, next, v);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      const T sum = fold<T, 1>(v[i])[0];
      out[i] = p == 0 ? sum : out[i] + sum;
    }
  }
}

template <class T, int R>
[[gnu::noinline]] void few_dots_of_parts(index_t k, const T* X, index_t ldx, const T* w, T* out) {
  const index_t part = part_of_sum<T>(k);
  for (index_t p = 0; p < k; p += part) {
    T sums[R];
    dots_few<T, R>(k - p < part ? k - p : part, X + p, ldx, w + p, sums);
    for (int i = 0; i < R; ++i) out[i] = p == 0 ? sums[i] : out[i] + sums[i];
  }
}

// The prefetch distance for `rows` rows: the rows after them, but at least prefetch_bytes.
template <class T>
inline index_t lead_of(index_t rows, index_t ldx) {
  constexpr index_t least = prefetch_bytes / static_cast<index_t>(sizeof(T));
  const index_t block = rows * ldx;
  return block > least ? block : least;
}

// R rows at once, d > 16: each entry is one chain over the rows. C vectors of them from j on; the
// last may be partly outside X. The gradient itself is read and written in whole vectors: a masked
// store would hold up the next load.
template <class T, int R, int C, bool Whole>
inline void grad_columns(const vec<T>* left, RowPointers<T, R> x, index_t j, First<T> last, T* grad,
                         bool first) {
  x.move(j);
  vec<T> g[C] = {};
  if (!first)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) g[c] = load(grad + j + c * W<T>);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const T* const at = x.row(i) + c * W<T>;
      g[c] = fma(left[i], Whole || c < C - 1 ? load(at) : load(at, last), g[c]);
    }
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) store(grad + j + c * W<T>, g[c]);
}

template <class T, int R>
inline void add_gradient(index_t d, const T* X, index_t ldx, const T* r, T* grad, bool first) {
  constexpr int N = W<T>;
  const RowPointers<T, R> x(X, ldx);
  vec<T> left[R];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) left[i] = broadcast(r[i]);
  const First<T> all = first_lanes<T>(N);
  index_t j = 0;
  for (; j + 4 * N <= d; j += 4 * N) grad_columns<T, R, 4, true>(left, x, j, all, grad, first);
  const index_t vectors = (d - j + N - 1) / N;
  if (vectors == 0) return;
  const First<T> last = first_lanes<T>(static_cast<int>(d - j - (vectors - 1) * N));
  switch (vectors) {
    case 1: return grad_columns<T, R, 1, false>(left, x, j, last, grad, first);
    case 2: return grad_columns<T, R, 2, false>(left, x, j, last, grad, first);
    case 3: return grad_columns<T, R, 3, false>(left, x, j, last, grad, first);
    default: return grad_columns<T, R, 4, false>(left, x, j, last, grad, first);
  }
}

// Rows of a segment from `first` on. Blocks of 16 rows are still in L1 when they are read again.
template <class T, class Loss, class S = Ahead<T>>
void add_rows(const LinearRows<T>& x, Residuals<T, Loss>& residuals, T* grad, bool first) {
  constexpr int R = GDCORE_VECTOR_BYTES == 64 ? 16 : 8;
  const index_t ahead = lead_of<T>(16, x.ldx);
  index_t i = 0;
  for (; i + 16 <= x.rows; i += 16) {
    T r[16];
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const T* const X = x.X + (i + h * W<T>)*x.ldx;
      const vec<T> dots = dot_block<T, S>(x.d, X, x.ldx, x.weights, ahead);
      store(r + h * W<T>, residuals.template take<true>(dots, i, h, W<T>));
    }
#pragma GCC unroll 2
    for (int s = 0; s < 16; s += R)
      add_gradient<T, R>(x.d, x.X + (i + s) * x.ldx, x.ldx, r + s, grad, first && i + s == 0);
  }
  if (i == x.rows) return;
  T r[16] = {};
  for (index_t s = 0; i + s < x.rows; ++s)
    dots_few<T, 1>(x.d, x.X + (i + s) * x.ldx, 0, x.weights, r + s);
  for (int h = 0; h < Lanes16<T>::H && i + h * W<T> < x.rows; ++h)
    store(r + h * W<T>, residuals.template take<false>(load(r + h * W<T>), i, h,
                                                       at_most(W<T>, x.rows - i - h * W<T>)));
  for (index_t s = 0; i + s < x.rows; ++s)
    add_gradient<T, 1>(x.d, x.X + (i + s) * x.ldx, x.ldx, r + s, grad, first && i + s == 0);
}

// Whole vectors of rows, so few at a time that the processor reads the next ones before it is done
// with these.
template <class T, class Loss>
void add_few_rows_at_a_time(const LinearRows<T>& x, Residuals<T, Loss>& residuals, T* grad) {
  constexpr int N = W<T>, most = sizeof(T) / 2, R = N < most ? N : most;  // measured
  for (index_t i = 0; i < x.rows; i += N) {
    vec<T> dots = {};
    for (int s = 0; s < N; s += R) {
      const T* const X = x.X + (i + s) * x.ldx;
      const vec<T> products = dot_block<T, Side<1, false>, R>(x.d, X, x.ldx, x.weights, 0);
      dots = keep_first(s, dots, products);
      vec<T> v = dots, slope;
      T r[N];
      store(r, residuals.template slopes<true>(v, slope, i, N));
      add_gradient<T, R>(x.d, X, x.ldx, r + s, grad, i + s == 0);
    }
    residuals.template take<true>(dots, i / 16 * 16, static_cast<int>(i % 16 / N), N);
  }
}

// Adds a whole segment, reading memory in its order; d <= L. By measurement, rows of fewer than 32
// features are read fastest side by side, and rows of more than 256 bytes a few at a time.
template <class T, class Loss>
void add_rows_in_order(const LinearRows<T>& x, Residuals<T, Loss>& residuals, T* grad) {
  if (x.d < 32)
    return add_rows<T, Loss, Side<rows_in_registers<T>, false>>(x, residuals, grad, true);
  if (x.d * static_cast<index_t>(sizeof(T)) <= 256)
    return add_rows<T, Loss, Side<1, false>>(x, residuals, grad, true);
  add_few_rows_at_a_time(x, residuals, grad);
}

template <class T>
inline LinearRows<T> some_rows(LinearRows<T> x, index_t first, index_t most) {
  x.rows = x.rows - first < most ? x.rows - first : most;
  x.X += first * x.ldx;
  return x;
}

template <class T, class Loss>
void linear_many_features(const LinearRows<T>& x, T* partial, index_t stride) {
  for (index_t i = 0; i < x.rows; i += L<T>, partial += stride) {
    Residuals<T, Loss> residuals(x, i);
    const LinearRows<T> segment = some_rows(x, i, L<T>);
    if (x.reading == Reading::in_order && segment.rows == L<T> && x.d <= L<T>)
      add_rows_in_order(segment, residuals, partial);
    else
      add_rows(segment, residuals, partial, true);
    residuals.finish(partial + x.d);
  }
}

}  // namespace
