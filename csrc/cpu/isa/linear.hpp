// The loops of the linear model: dot products of rows, residuals, X^T residual, in one pass.
#pragma once

#include "contract.hpp"
#include "rows.hpp"
#include "simd.hpp"
#include "table.hpp"

namespace {

using gdcore::L;
using gdcore::LinearRows;

// Rows of X are asked for this long before they are read. Measured: 10 to 50 % on data larger than
// the caches, nothing lost on smaller ones.
constexpr index_t prefetch_bytes = 4096;

// Chunks walked at a time where X comes from memory. Measured: 4 beat 2 and 8.
constexpr int lockstep = 4;

template <class T>
inline void prefetch(const T* p, index_t ahead) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + ahead);
}

// The lines 4 KiB after 16 rows.
template <class T, int D>
inline void prefetch_rows(const T* x) {
#pragma GCC unroll 32
  for (int at = 0; at < 16 * D; at += 64 / static_cast<int>(sizeof(T)))
    prefetch(x + at, prefetch_bytes);
}

constexpr int at_most(int most, index_t n) {
  return n < 0 ? 0 : n < most ? static_cast<int>(n) : most;
}

// ---- Residuals: 16 rows at a time, the sums in 16 lanes ----

template <class T>
struct Residuals {
  const T *intercept, *offset, *y, *sample_weight;
  vec<T> b;
  Lanes16<T> squares = {}, sums = {};

  // Of the rows from `first` on.
  Residuals(const LinearRows<T>& x, index_t first)
      : intercept(x.intercept),
        offset(x.offset ? x.offset + first : nullptr),
        y(x.y ? x.y + first : nullptr),
        sample_weight(x.sample_weight ? x.sample_weight + first : nullptr),
        b(broadcast(x.intercept ? *x.intercept : T(0))) {}

  // v: products of rows at + h W and on. Returns weighted residuals; `lanes` of them are rows.
  template <bool Whole>
  inline vec<T> take(vec<T> v, index_t at, int h, int lanes) {
    at += h * W<T>;
    const auto get = [&](const T* p) { return Whole ? load(p + at) : load_first(p + at, lanes); };
    if (intercept) v += b;
    if (offset) v += get(offset);
    if (y) v -= get(y);
    const vec<T> weighted = sample_weight ? get(sample_weight) * v : v;
    const vec<T> square = fma(weighted, v, squares.h[h]), sum = sums.h[h] + weighted;
    squares.h[h] = Whole ? square : keep_first(lanes, square, squares.h[h]);
    sums.h[h] = Whole ? sum : keep_first(lanes, sum, sums.h[h]);
    return weighted;
  }

  // The sum of residuals, then that of squares.
  inline void finish(T* out) const {
    out[0] = sum16(sums);
    out[1] = sum16(squares);
  }
};

// ---- Up to 4 features: one vector a column ----

template <class T, int D>
struct Columns {
  static constexpr int N = W<T>, most = D, sums = D;
  typedef Lanes16<T> Sum;

  vec<T> weights[D];
  Columns(const T* w, index_t) {
    for (int j = 0; j < D; ++j) weights[j] = broadcast(w[j]);
  }

  // Columns of N rows at x, `left` of them there.
  template <bool Whole>
  static inline void read(const T* x, index_t left, vec<T>* column) {
#pragma GCC unroll 4
    for (int j = 0; j < D; ++j)
      column[j] = Whole ? load(x + j * N) : load_first(x + j * N, at_most(N, left * D - j * N));
    columns<T, D>(column, typename CountLanes<N>::type());
  }

  static constexpr index_t d() { return D; }

  template <bool Whole>
  inline vec<T> dots(const T* x, index_t left) const {
    vec<T> column[D];
    read<Whole>(x, left, column);
    return products(column);
  }

  // With the weights: 1, 2 or 4 lanes, folded.
  inline vec<T> products(const vec<T>* column) const {
    constexpr int lanes = static_cast<int>(gdcore::lanes_of(D));
    vec<T> v[lanes] = {};
#pragma GCC unroll 4
    for (int j = 0; j < D; ++j) v[j] = fma(column[j], weights[j], vec<T>{});
#pragma GCC unroll 2
    for (int half = lanes / 2; half >= 1; half /= 2)
#pragma GCC unroll 2
      for (int j = 0; j < half; ++j) v[j] += v[j + half];
    return v[0];
  }

  template <bool Whole>
  inline __attribute__((always_inline)) void rows(const T* X, index_t i, index_t n,
                                                  Residuals<T>& residuals, Lanes16<T>* acc) const {
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const index_t row = i + h * N, left = n - row;
      if (!Whole && left <= 0) break;
      const int lanes = at_most(N, left);
      vec<T> column[D];
      read<Whole>(X + row * D, left, column);
      const vec<T> r = residuals.template take<Whole>(products(column), i, h, lanes);
#pragma GCC unroll 4
      for (int j = 0; j < D; ++j) {
        const vec<T> sum = fma(r, column[j], acc[j].h[h]);
        acc[j].h[h] = Whole ? sum : keep_first(lanes, sum, acc[j].h[h]);
      }
    }
  }

  inline void finish(const Lanes16<T>* acc, T* grad) const {
#pragma GCC unroll 4
    for (int j = 0; j < D; ++j) grad[j] = sum16(acc[j]);
  }
};

// ---- Up to 16: 8 or 16 lanes a row ----

constexpr int any_wide = 15;  // stands for 9 to 15 features, told at run time

// One vector holds `rows_each` rows, or one row lies in `parts` vectors. Every gradient entry is
// two chains over the rows, even and odd ones.
template <class T, int D>
struct RowLanes {
  static constexpr int N = W<T>, most = D, P = static_cast<int>(gdcore::lanes_of(D));
  static constexpr int lanes = P < N ? P : N;  // of a row in one vector
  static constexpr int rows_each = N / lanes, parts = P / lanes, sums = 2 * P / N;
  typedef vec<T> Sum;

  index_t features;
  vec<T> weights[parts];
  First<T> used[parts];  // lanes
  RowLanes(const T* w, index_t d) : features(d) {
    T lane[16] = {};
    for (int i = 0; i < 16; ++i) lane[i] = i % P < d ? w[i % P] : T(0);
    for (int q = 0; q < parts; ++q) {
      weights[q] = load(lane + q * N);
      used[q] = first_lanes<T>(at_most(N, d - q * N));
    }
  }

  inline index_t d() const { return D == any_wide ? features : D; }

  // Part Q of the rows at x, `left` of them there.
  template <bool Whole, int Q>
  inline vec<T> read(const T* x, index_t left) const {
    if constexpr (Whole && D == P) return load(x + Q * N);
    if constexpr (rows_each == 1) {
      const int width = at_most(N, d() - Q * N);  // of a row in this part
      if (Whole && D != any_wide && width == N) return load(x + Q * N);
      if (Whole && D == any_wide) return load(x + Q * N, used[Q]);
      return load_first(x + Q * N, Whole || left > 0 ? width : 0);
    }
    return pad_rows<T, D, P>(load_first(x, (Whole ? rows_each : at_most(rows_each, left)) * D),
                             typename CountLanes<N>::type());
  }

  // Products of N rows.
  template <bool Whole>
  inline __attribute__((always_inline)) vec<T> dots(const T* x, index_t left) const {
    vec<T> v[lanes];
    unroll<lanes>([&](auto s) {
      constexpr int row = s.value * rows_each;
      vec<T> part[parts];
      unroll<parts>([&](auto q) {
        part[q.value] =
            fma(read<Whole, q.value>(x + row * d(), left - row), weights[q.value], vec<T>{});
      });
#pragma GCC unroll 3
      for (int half = parts / 2; half >= 1; half /= 2)
#pragma GCC unroll 4
        for (int q = 0; q < half; ++q) part[q] += part[q + half];
      v[s.value] = part[0];
    });
    return row_sums<T, lanes>(v);
  }

  // acc += residuals times N rows.
  template <bool Whole>
  inline __attribute__((always_inline)) void add(const T* x, vec<T> residuals, index_t left,
                                                 vec<T>* acc) const {
    T r[N];
    if constexpr (rows_each == 1) store(r, residuals);
    unroll<lanes>([&](auto s) {
      constexpr int row = s.value * rows_each;
      vec<T> factor;
      if constexpr (rows_each == 1)
        factor = broadcast(r[row]);
      else
        factor = spread<T, lanes, s.value>(residuals);
      unroll<parts>([&](auto q) {
        vec<T>& sum = acc[(s.value * parts + q.value) % sums];
        const vec<T> next = fma(factor, read<Whole, q.value>(x + row * d(), left - row), sum);
        sum = Whole ? next : keep_first(at_most(N, (left - row) * P - q.value * N), next, sum);
      });
    });
  }

  template <bool Whole>
  inline __attribute__((always_inline)) void rows(const T* X, index_t i, index_t n,
                                                  Residuals<T>& residuals, vec<T>* acc) const {
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const index_t row = i + h * N, left = n - row;
      if (!Whole && left <= 0) break;
      const T* const x = X + row * d();
      const vec<T> r = residuals.template take<Whole>(dots<Whole>(x, left), i, h, at_most(N, left));
      asm("" ::: "memory");  // rows are read again: there are too many to stay in registers
      add<Whole>(x, r, left, acc);
    }
  }

  inline void finish(vec<T>* acc, T* grad) const {
    T sum[16];
    if constexpr (P < N) acc[0] = fold<T, P>(acc[0]);
#pragma GCC unroll 8
    for (int q = 0; q < parts; ++q) store(sum + q * N, P < N ? acc[q] : acc[q] + acc[q + parts]);
    for (index_t j = 0; j < d(); ++j) grad[j] = sum[j];
  }
};

template <class T, int D, bool Few = D <= 4>
struct NarrowOf {
  typedef Columns<T, D> type;
};
template <class T, int D>
struct NarrowOf<T, D, false> {
  typedef RowLanes<T, D> type;
};
template <class T, int D>
using Narrow = typename NarrowOf<T, D>::type;

template <class T, int D>
void dot_narrow(index_t rows, index_t k, const T* X, const T* w, T* out) {
  const Narrow<T, D> model(w, k);
  index_t i = 0;
  for (; i + W<T> <= rows; i += W<T>)
    store(out + i, model.template dots<true>(X + i * model.d(), rows - i));
  if (i < rows)
    store_first(out + i, static_cast<int>(rows - i),
                model.template dots<false>(X + i * model.d(), rows - i));
}

template <class T, class Model>
inline void add_chunk(const Model& model, const LinearRows<T>& x, index_t first, T* partial) {
  const T* const X = x.X + first * x.d;
  const index_t n = at_most(L<T>, x.rows - first);
  Residuals<T> residuals(x, first);
  typename Model::Sum acc[Model::sums] = {};
  index_t i = 0;
  for (; i + 16 <= n; i += 16) {
    prefetch_rows<T, Model::most>(X + i * model.d());
    model.template rows<true>(X, i, n, residuals, acc);
  }
  if (i < n) model.template rows<false>(X, i, n, residuals, acc);
  model.finish(acc, partial);
  residuals.finish(partial + x.d);
}

// Whole chunks, `apart` rows from one to the next, 16 rows of each in turn: the prefetcher follows
// several places at once where it would follow one.
template <class T, class Model>
void add_in_lockstep(const Model& model, const LinearRows<T>& x, index_t first, index_t apart,
                     T* partial, index_t stride) {
  struct Kept {
    typename Model::Sum acc[Model::sums] = {};
    Lanes16<T> squares = {}, sums = {};
  } kept[lockstep];
  for (index_t i = 0; i < L<T>; i += 16) {
    for (int s = 0; s < lockstep; ++s) {
      const index_t row = first + s * apart + i;
      const T* const X = x.X + row * x.d;
      Residuals<T> residuals(x, row);
      Kept now = kept[s];
      residuals.squares = now.squares, residuals.sums = now.sums;
      prefetch_rows<T, Model::most>(X);
      model.template rows<true>(X, 0, 16, residuals, now.acc);
      now.squares = residuals.squares, now.sums = residuals.sums;
      kept[s] = now;
    }
  }
  for (int s = 0; s < lockstep; ++s, partial += stride) {
    model.finish(kept[s].acc, partial);
    partial[x.d] = sum16(kept[s].sums);
    partial[x.d + 1] = sum16(kept[s].squares);
  }
}

// Chunks of rows, the partial sums of each `stride` after the last one's.
template <class T, int D>
void linear_narrow(const LinearRows<T>& x, T* partial, index_t stride) {
  const Narrow<T, D> model(x.weights, x.d);
  const index_t each = x.from_memory ? x.rows / L<T> / lockstep : 0;
  for (index_t c = 0; c < each; ++c)
    add_in_lockstep<T>(model, x, c * L<T>, each * L<T>, partial + c * stride, each * stride);
  for (index_t c = each * lockstep; c * L<T> < x.rows; ++c)
    add_chunk<T>(model, x, c * L<T>, partial + c * stride);
}

// ---- More: 16 lanes over the features ----

// R rows of at most L columns: lanes 8, 4, ... folded until one vector a row is left. Meanwhile the
// lines from `next` on are asked for, as many as are read.
template <class T, int R>
inline void lanes_of_rows(index_t k, const T* X, index_t ldx, const T* w, const T*& next,
                          vec<T>* out) {
  constexpr int H = Lanes16<T>::H, line = 64 / static_cast<int>(sizeof(T));
  RowPointers<T, R> x(X, ldx);
  Lanes16<T> acc[R] = {};
  index_t p = 0;
  for (; p + 16 <= k; p += 16, x.move(16), next += 16 * R) {
#pragma GCC unroll 32
    for (int at = 0; at < 16 * R; at += line) prefetch(next + at, 0);
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) {
      const vec<T> right = load(w + p + h * W<T>);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) acc[i].h[h] = fma(load(x.row(i) + h * W<T>), right, acc[i].h[h]);
    }
  }
  if (p < k) {
#pragma GCC unroll 32
    for (int at = 0; at < 16 * R; at += line) prefetch(next + at, 0);
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

// Registers hold this many rows' lanes at once.
template <class T>
constexpr int rows_at_once = (GDCORE_VECTOR_BYTES == 64 ? 16 : 8) / Lanes16<T>::H;

// Products of W rows with the weights, chunk by chunk of the columns.
template <class T>
inline vec<T> dots_wide(index_t k, const T* X, index_t ldx, const T* w, index_t ahead) {
  constexpr int N = W<T>, R = rows_at_once<T> < N ? rows_at_once<T> : N;
  const T* next = X + ahead;
  vec<T> total = {};
  for (index_t p = 0; p < k; p += L<T>) {
    const index_t len = k - p < L<T> ? k - p : L<T>;
    vec<T> v[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; i += R)
      lanes_of_rows<T, R>(len, X + i * ldx + p, ldx, w + p, next, v + i);
    const vec<T> sums = row_sums<T, N>(v);
    total = p == 0 ? sums : total + sums;
  }
  return total;
}

// The same for R < W rows.
template <class T, int R>
inline void dots_few(index_t k, const T* X, index_t ldx, const T* w, T* out) {
  const T* next = X + prefetch_bytes / static_cast<index_t>(sizeof(T));
  for (index_t p = 0; p < k; p += L<T>) {
    vec<T> v[R];
    lanes_of_rows<T, R>(k - p < L<T> ? k - p : L<T>, X + p, ldx, w + p, next, v);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      const T sum = fold<T, 1>(v[i])[0];
      out[i] = p == 0 ? sum : out[i] + sum;
    }
  }
}

// How far ahead of `rows` rows to ask for more: the next ones, and no less than the least.
template <class T>
inline index_t lead_of(index_t rows, index_t ldx) {
  constexpr index_t least = prefetch_bytes / static_cast<index_t>(sizeof(T));
  const index_t block = rows * ldx;
  return block > least ? block : least;
}

// R rows at once, d > 16: each entry is one chain over the rows. C vectors of them from j on, the
// last one perhaps only partly of X. The gradient itself is read and written in whole vectors: a
// masked store would hold up the next load.
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
inline void grad_wide(index_t d, const T* X, index_t ldx, const T* r, T* grad, bool first) {
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

// Rows of a chunk from `first` on. Blocks of 16 rows are still in L1 when they are read again.
template <class T>
void rows_wide(const LinearRows<T>& x, Residuals<T>& residuals, T* grad, bool first) {
  constexpr int R = GDCORE_VECTOR_BYTES == 64 ? 16 : 8;
  const index_t ahead = lead_of<T>(16, x.ldx);
  index_t i = 0;
  for (; i + 16 <= x.rows; i += 16) {
    T r[16];
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const T* const X = x.X + (i + h * W<T>)*x.ldx;
      const vec<T> dots = dots_wide<T>(x.d, X, x.ldx, x.weights, ahead);
      store(r + h * W<T>, residuals.template take<true>(dots, i, h, W<T>));
    }
#pragma GCC unroll 2
    for (int s = 0; s < 16; s += R)
      grad_wide<T, R>(x.d, x.X + (i + s) * x.ldx, x.ldx, r + s, grad, first && i + s == 0);
  }
  if (i == x.rows) return;
  T r[16] = {};
  for (index_t s = 0; i + s < x.rows; ++s)
    dots_few<T, 1>(x.d, x.X + (i + s) * x.ldx, 0, x.weights, r + s);
  for (int h = 0; h < Lanes16<T>::H && i + h * W<T> < x.rows; ++h)
    store(r + h * W<T>, residuals.template take<false>(load(r + h * W<T>), i, h,
                                                       at_most(W<T>, x.rows - i - h * W<T>)));
  for (index_t s = 0; i + s < x.rows; ++s)
    grad_wide<T, 1>(x.d, x.X + (i + s) * x.ldx, x.ldx, r + s, grad, first && i + s == 0);
}

template <class T>
inline LinearRows<T> some_rows(LinearRows<T> x, index_t first, index_t most) {
  x.rows = x.rows - first < most ? x.rows - first : most;
  x.X += first * x.ldx;
  return x;
}

template <class T>
void linear_wide(const LinearRows<T>& x, T* partial, index_t stride) {
  for (index_t i = 0; i < x.rows; i += L<T>, partial += stride) {
    Residuals<T> residuals(x, i);
    rows_wide(some_rows(x, i, L<T>), residuals, partial, true);
    residuals.finish(partial + x.d);
  }
}

// ---- Entries of the table ----

// f(Int<D>) for the kernel made for d <= 16 features.
template <class F>
inline void narrow_of(index_t d, F&& f) {
  switch (d) {
    case 1: return f(Int<1>());
    case 2: return f(Int<2>());
    case 3: return f(Int<3>());
    case 4: return f(Int<4>());
    case 5: return f(Int<5>());
    case 6: return f(Int<6>());
    case 7: return f(Int<7>());
    case 8: return f(Int<8>());
    case 16: return f(Int<16>());
    default: return f(Int<any_wide>());
  }
}

template <class T>
void dot_rows(index_t rows, index_t k, bool narrow, const T* X, index_t ldx, const T* w, T* out) {
  if (narrow) return narrow_of(k, [&](auto d) { dot_narrow<T, d.value>(rows, k, X, w, out); });
  const index_t ahead = lead_of<T>(W<T>, ldx);
  constexpr int few = rows_at_once<T> < 4 ? rows_at_once<T> : 4;
  index_t i = 0;
  for (; i + W<T> <= rows; i += W<T>) store(out + i, dots_wide<T>(k, X + i * ldx, ldx, w, ahead));
  for (; i + few <= rows; i += few) dots_few<T, few>(k, X + i * ldx, ldx, w, out + i);
  for (; i < rows; ++i) dots_few<T, 1>(k, X + i * ldx, ldx, w, out + i);
}

// P lanes of the columns, one vector of rows each.
template <class T, int P>
void dot_columns(index_t rows, index_t k, const T* X, index_t ldx, const T* w, T* out) {
  for (index_t i = 0; i < rows; i += W<T>) {
    const int lanes = at_most(W<T>, rows - i);
    const First<T> mask = first_lanes<T>(lanes);
    const T* x = X + i;
    vec<T> acc[P] = {};
    index_t p = 0;
    for (; p + P <= k; p += P) {
#pragma GCC unroll 16
      for (int s = 0; s < P; ++s, x += ldx) {
        prefetch(x, prefetch_bytes);
        acc[s] = fma(load(x, mask), broadcast(w[p + s]), acc[s]);
      }
    }
#pragma GCC unroll 16
    for (int s = 0; s < P; ++s)
      if (p + s < k) acc[s] = fma(load(x + s * ldx, mask), broadcast(w[p + s]), acc[s]);
#pragma GCC unroll 4
    for (int half = P / 2; half >= 1; half /= 2)
#pragma GCC unroll 8
      for (int s = 0; s < half; ++s) acc[s] += acc[s + half];
    store_first(out + i, lanes, acc[0]);
  }
}

template <class T>
void dot_columns(index_t rows, index_t k, index_t lanes, const T* X, index_t ldx, const T* w,
                 T* out) {
  switch (lanes) {
    case 1: return dot_columns<T, 1>(rows, k, X, ldx, w, out);
    case 2: return dot_columns<T, 2>(rows, k, X, ldx, w, out);
    case 4: return dot_columns<T, 4>(rows, k, X, ldx, w, out);
    case 8: return dot_columns<T, 8>(rows, k, X, ldx, w, out);
    default: return dot_columns<T, 16>(rows, k, X, ldx, w, out);
  }
}

template <class T>
void residuals(index_t n, T* r, const T* offset, const T* y, const T* sample_weight, T* squares) {
  LinearRows<T> x{};
  x.offset = offset;
  x.y = y;
  x.sample_weight = sample_weight;
  Residuals<T> sums(x, 0);
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
void linear_rows(const LinearRows<T>& x, T* partial, index_t stride) {
  if (x.d < 1 || x.d > 16) return linear_wide<T>(x, partial, stride);
  narrow_of(x.d, [&](auto d) { linear_narrow<T, d.value>(x, partial, stride); });
}

template <class T>
void linear_block(const LinearRows<T>& x, T* partial, T* lanes, bool first, bool last) {
  Residuals<T> residuals(x, 0);
  if (!first) residuals.sums = load16(lanes), residuals.squares = load16(lanes + 16);
  rows_wide(x, residuals, partial, first);
  if (last) return residuals.finish(partial + x.d);
  store16(lanes, residuals.sums);
  store16(lanes + 16, residuals.squares);
}

}  // namespace
