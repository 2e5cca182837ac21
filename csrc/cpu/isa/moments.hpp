// The loops of second moments: sums of products, and the quadratic that they define.
#pragma once

#include "pack.hpp"
#include "vector.hpp"
#include "table.hpp"

namespace {

// ---- Sums of a double, or of a vector of them: rounded, or with what rounding lost ----

template <class D>
struct Plain {
  D hi;
};

template <class D>
struct Pair {
  D hi, lo;
};

template <class D>
inline Pair<D> two_sum(D a, D b) {
  const D sum = a + b, z = sum - a;
  return {sum, (a - (sum - z)) + (b - z)};
}

template <class D>
inline Plain<D> add_product(Plain<D> x, D a, D b) {
  return {fma(a, b, x.hi)};
}
template <class D>
inline Pair<D> add_product(Pair<D> x, D a, D b) {
  const D product = a * b;
  const Pair<D> sum = two_sum(x.hi, product);
  return {sum.hi, x.lo + (sum.lo + fma(a, b, -product))};
}

// x + a b for an `a` of two parts.
template <class D>
inline Plain<D> add_product(Plain<D> x, Plain<D> a, D b) {
  return add_product(x, a.hi, b);
}
template <class D>
inline Pair<D> add_product(Pair<D> x, Pair<D> a, D b) {
  const Pair<D> sum = add_product(x, a.hi, b);
  return {sum.hi, fma(a.lo, b, sum.lo)};
}

template <class D>
inline Plain<D> subtract(Plain<D> x, Plain<D> y) {
  return {x.hi - y.hi};
}
template <class D>
inline Pair<D> subtract(Pair<D> x, Pair<D> y) {
  const Pair<D> sum = two_sum(x.hi, -y.hi);
  return {sum.hi, sum.lo + (x.lo - y.lo)};
}

template <class D>
inline D value(Plain<D> x) {
  return x.hi;
}
template <class D>
inline D value(Pair<D> x) {
  return x.hi + x.lo;
}

// The sums that belong to parameters of type T, and their parts in memory, `low` apart.
template <class T, class D>
struct SumOf;
template <class D>
struct SumOf<float, D> {
  typedef Plain<D> type;
};
template <class D>
struct SumOf<double, D> {
  typedef Pair<D> type;
};

inline void read(Plain<double>& x, const double* p, index_t) { x = {*p}; }
inline void read(Pair<double>& x, const double* p, index_t low) { x = {*p, p[low]}; }
inline void read(Plain<vec<double>>& x, const double* p, index_t) { x = {load(p)}; }
inline void read(Pair<vec<double>>& x, const double* p, index_t low) {
  x = {load(p), load(p + low)};
}
inline void read_first(Plain<vec<double>>& x, const double* p, index_t, int n) {
  x = {load_first(p, n)};
}
inline void read_first(Pair<vec<double>>& x, const double* p, index_t low, int n) {
  x = {load_first(p, n), load_first(p + low, n)};
}
inline void write_first(double* p, index_t, int n, Plain<vec<double>> x) {
  store_first(p, n, x.hi);
}
inline void write_first(double* p, index_t low, int n, Pair<vec<double>> x) {
  store_first(p, n, x.hi);
  store_first(p + low, n, x.lo);
}

// ---- Sums of products over rows ----

inline void write(double* p, index_t, Plain<vec<double>> x) { store(p, x.hi); }
inline void write(double* p, index_t low, Pair<vec<double>> x) {
  store(p, x.hi);
  store(p + low, x.lo);
}

#if GDCORE_VECTOR_BYTES == 64 || defined(__ARM_NEON)
constexpr int sums_at_once = 24;  // in registers
#else
constexpr int sums_at_once = 12;
#endif

// Rows and vectors of a tile. A sum that is a pair takes two registers, and more beside them.
template <class T>
constexpr int rows_of_tile = sums_at_once / (sizeof(T) == 4 ? 3 : 6);
template <class T>
constexpr int tile_vectors = sizeof(T) == 4 ? 3 : 2;
// The last tile may be taller if it is narrow: [1 y] behind whole vectors of features alone would
// be too few chains to hide an fma's latency.
template <class T>
constexpr int tallest = rows_of_tile<T> == 8 ? 10 : rows_of_tile<T>;

// Beside heads there are fewer vectors, or registers do not suffice.
template <class T>
constexpr int vectors_beside_heads = sums_at_once == 24 && sizeof(T) == 4 ? 2 : 1;

// Memory up to `end` is asked for step by step, evenly over the rows of all tiles: asked for at
// once it holds up the products until most of it has come.
struct Asking {
  const char *at, *end;
  index_t step;
};

// Sums of R columns from i on, and of H heads, times C vectors from j on; of the heads times V
// vectors of heads.
template <class T, int R, int C, int H = 0, int V = 0>
inline void products_tile(const gdcore::ProductsArgs& x, Asking& ahead, index_t i, index_t j) {
  typedef typename SumOf<T, vec<double>>::type Sum;
  Sum sum[R + H][C] = {}, corner[H + 1][V + 1] = {};
  double* const out = x.out + i * x.ldc + j;
  double* const head_out = x.out + x.m * x.ldc;
  const auto each = [&](auto&& f) __attribute__((always_inline)) {
#pragma GCC unroll 14
    for (int r = 0; r < R + H; ++r)
#pragma GCC unroll 3
      for (int c = 0; c < C; ++c)
        f(sum[r][c], (r < R ? out + r * x.ldc : head_out + (r - R) * x.ldc + j) + c * W<double>);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) f(corner[h][v], head_out + h * x.ldc + x.head + v * W<double>);
  };
  if (x.resume) each([&](Sum& one, const double* at) { read(one, at, x.low); });
  const double *a = x.a + i, *b = x.a + j, *head = x.a + x.head;
  const char* next = ahead.at;
  const index_t step = next < ahead.end ? ahead.step : 0;
#pragma GCC unroll 2
  for (index_t p = 0; p < x.k; ++p, a += x.ld, b += x.ld, head += x.ld, next += step) {
    __builtin_prefetch(next, 0, 2);
    vec<double> right[C];
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) right[c] = load(b + c * W<double>);
#pragma GCC unroll 14
    for (int r = 0; r < R + H; ++r) {
      const vec<double> left = broadcast(r < R ? a[r] : head[r - R]);
#pragma GCC unroll 3
      for (int c = 0; c < C; ++c) sum[r][c] = add_product(sum[r][c], left, right[c]);
#pragma GCC unroll 2
      for (int v = 0; r >= R && v < V; ++v)
        corner[r - R][v] = add_product(corner[r - R][v], left, load(head + v * W<double>));
    }
  }
  each([&](const Sum& one, double* at) { write(at, x.low, one); });
  ahead.at = next;
}

// Vectors three at a time, but rather two and two than three and one.
template <class T, int R>
inline void products_rows(const gdcore::ProductsArgs& x, Asking& ahead, index_t i) {
  constexpr int most = R > rows_of_tile<T> ? 2 : tile_vectors<T>;
  for (index_t j = i / W<double> * W<double>; j < x.n;) {
    const index_t vectors = (x.n - j + W<double> - 1) / W<double>;
    if (most == 3 && vectors != 4 && vectors >= 3) {
      products_tile<T, R, most>(x, ahead, i, j);
      j += most * W<double>;
    } else if (vectors >= 2) {
      products_tile<T, R, 2>(x, ahead, i, j);
      j += 2 * W<double>;
    } else {
      products_tile<T, R, 1>(x, ahead, i, j);
      j += W<double>;
    }
  }
}

// The first rows, and H heads. Products of the heads with each other go along with one vector.
template <class T, int H>
inline void products_heads(const gdcore::ProductsArgs& x, Asking& ahead) {
  constexpr int R = rows_of_tile<T>, C = vectors_beside_heads<T>;
  constexpr int V = (H + W<double> - 1) / W<double>;
  const index_t vectors = (x.n + W<double> - 1) / W<double>;
  products_tile<T, R, 1, H, V>(x, ahead, 0, 0);
  index_t c = 1;
  for (; c + C <= vectors; c += C) products_tile<T, R, C, H>(x, ahead, 0, c * W<double>);
  if (C > 1 && c < vectors) products_tile<T, R, 1, H>(x, ahead, 0, c * W<double>);
}

template <class T, int R>
inline void products_last(const gdcore::ProductsArgs& x, Asking& ahead, index_t i) {
  if (x.m - i == R) return products_rows<T, R>(x, ahead, i);
  if constexpr (R > 1) products_last<T, R - 1>(x, ahead, i);
}

template <class T>
void products(const gdcore::ProductsArgs& given) {
  const gdcore::ProductsArgs x = given;
  const index_t vectors = (x.n + W<double> - 1) / W<double>;
  const index_t tiles = 1 + x.m / rows_of_tile<T> * (vectors + 1) / 4;  // about
  Asking ahead = {x.ahead.at, x.ahead.at + x.ahead.bytes, x.ahead.bytes / (tiles * x.k) + 1};
  if (x.heads == 2) products_heads<T, 2>(x, ahead);
  if (x.heads == 3) products_heads<T, 3>(x, ahead);
  if (x.heads == 4) products_heads<T, 4>(x, ahead);
  for (index_t i = x.heads ? rows_of_tile<T> : 0; i < x.m; i += rows_of_tile<T>) {
    const bool narrow = x.n - i <= 2 * W<double>;
    if (x.m - i <= (narrow ? tallest<T> : rows_of_tile<T>))
      return products_last<T, tallest<T>>(x, ahead, i);
    products_rows<T, rows_of_tile<T>>(x, ahead, i);
  }
}

template <class D>
inline Pair<D> add(Pair<D> x, Plain<D> y) {
  const Pair<D> sum = two_sum(x.hi, y.hi);
  return {sum.hi, sum.lo + (x.lo + D{})};
}
template <class D>
inline Pair<D> add(Pair<D> x, Pair<D> y) {
  const Pair<D> sum = two_sum(x.hi, y.hi);
  return {sum.hi, sum.lo + (x.lo + y.lo)};
}

template <class T>
void add_sums(const gdcore::AddSumsArgs& x) {
  for (index_t j = 0; j < x.n; j += W<double>) {
    const index_t here = x.n - j < W<double> ? x.n - j : W<double>;
    double *const hi = x.hi + j * x.stride, *const lo = x.lo + j * x.stride;
    Pair<vec<double>> total = {};
    for (index_t i = 0; i < here; ++i) {
      total.hi[i] = hi[i * x.stride];
      total.lo[i] = lo[i * x.stride];
    }
    const double* from = x.sums + j;
    for (index_t c = 0; c < x.count; ++c, from += x.step) {
      typename SumOf<T, vec<double>>::type sum;
      read(sum, from, x.low);
      total = add(total, sum);
    }
    for (index_t i = 0; i < here; ++i) {
      hi[i * x.stride] = total.hi[i];
      lo[i * x.stride] = total.lo[i];
    }
  }
}

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
inline vec<double> widened(as_many<T> x) {
#if GDCORE_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return (vec<double>)_mm512_maskz_cvtps_pd(-1, (__m256)x);
#endif
  return __builtin_convertvector(x, vec<double>);
}
template <class T>
inline as_many<T> narrowed(vec<double> x) {
#if GDCORE_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return (as_many<T>)_mm512_maskz_cvtpd_ps(-1, (__m512d)x);
#endif
  return __builtin_convertvector(x, as_many<T>);
}

template <class T>
inline vec<double> load_wide(const T* p) {
  return widened<T>(*reinterpret_cast<const typename AsManyOf<T>::loose*>(p));
}
template <class T>
inline void store_narrow(T* p, vec<double> x) {
  *reinterpret_cast<typename AsManyOf<T>::loose*>(p) = narrowed<T>(x);
}

// Left to itself the compiler turns the short loops below into vector code for long ones.
inline void stay_scalar() { asm volatile(""); }

template <class T>
inline void widen_column(index_t rows, const T* x, index_t stride, double* out, index_t ld) {
#pragma GCC unroll 4
  for (index_t i = 0; i < rows; ++i, stay_scalar()) out[i * ld] = x[i * stride];
}

template <class T, int C>
inline void widen_block(const gdcore::WidenArgs<T>& x, index_t j) {
  const T* from = x.X + j;
  double* to = x.out + j;
  const index_t rows = x.rows, step = x.X_rs, ld = x.ld;
#pragma GCC unroll 4
  for (index_t i = 0; i < rows; ++i, from += step, to += ld) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) store(to + c * W<double>, load_wide(from + c * W<double>));
  }
}

// W features from j on, each of which lies together in memory.
template <class T>
inline void widen_transposed(const gdcore::WidenArgs<T>& x, index_t j) {
  constexpr int N = W<double>;
  const T* from = x.X + j * x.X_cs;
  double* to = x.out + j;
  const index_t whole = x.rows / N * N;
  for (index_t i = 0; i < whole; i += N, from += N, to += N * x.ld) {
    vec<double> rows[N];
#pragma GCC unroll 8
    for (int c = 0; c < N; ++c) rows[c] = load_wide(from + c * x.X_cs);
    transpose_block<double, N>(rows);
#pragma GCC unroll 8
    for (int r = 0; r < N; ++r) store(to + r * x.ld, rows[r]);
  }
  for (int c = 0; c < N; ++c) widen_column(x.rows - whole, from + c * x.X_cs, x.X_rs, to + c, x.ld);
}

// Rows [X 1 y - offset] in double, times the roots of their weights; without weights the column of
// ones is there already.
template <class T>
void widen(const gdcore::WidenArgs<T>& x) {
  const index_t rows = x.rows, ld = x.ld;
  const bool together = x.X_cs == 1 || x.X_rs == 1;
  const index_t whole = together ? x.d / W<double> * W<double> : 0;
  // Two vectors of each row at a time: a line of X, and no loop for a row.
  constexpr index_t few = 2 * W<double>;
  index_t j = 0;
  if (x.X_cs == 1)
    for (; whole - j >= few; j += few) widen_block<T, 2>(x, j);
  for (; j < whole; j += W<double>) x.X_cs == 1 ? widen_block<T, 1>(x, j) : widen_transposed(x, j);
  for (; j < x.d; ++j) widen_column(rows, x.X + j * x.X_cs, x.X_rs, x.out + j, ld);
  double* z = x.out + x.ones;
  for (index_t u = 0; u < x.t; ++u) {
    ++z;
    widen_column(rows, x.y + u * x.y_cs, x.y_rs, z, ld);
    if (!x.offset) continue;
    const T* const offset = x.offset + u * x.offset_cs;
    for (index_t i = 0; i < rows; ++i, stay_scalar()) z[i * ld] -= offset[i * x.offset_rs];
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

// ---- The quadratic ----

// C vectors of G w - c from j on, the last one perhaps only partly there: each a chain over w.
template <class T, int C>
inline void half_gradient(const gdcore::QuadraticArgs<T>& q, index_t j, double* out) {
  typedef typename SumOf<T, vec<double>>::type Sum;
  const index_t low = q.p * q.ld;
  Sum sum[C] = {};
  for (index_t b = 0; b < q.p; ++b) {
    const vec<double> factor = broadcast(static_cast<double>(q.w[b * q.w_stride]));
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      Sum g;
      read(g, q.G + b * q.ld + j + c * W<double>, low);
      sum[c] = add_product(sum[c], g, factor);
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) {
    const index_t at = j + c * W<double>, left = q.p - at;
    const int lanes = left < W<double> ? static_cast<int>(left) : W<double>;
    Sum offset;
    read_first(offset, q.c + at, q.p, lanes);
    write_first(out + at, q.p, lanes, subtract(sum[c], offset));
  }
}

template <class T>
double quadratic(const gdcore::QuadraticArgs<T>& q, double* gradient) {
  typedef typename SumOf<T, double>::type Sum;
  for (index_t j = 0; j < q.p; j += 4 * W<double>) {
    const index_t vectors = (q.p - j + W<double> - 1) / W<double>;
    switch (vectors) {
      case 1: half_gradient<T, 1>(q, j, gradient); break;
      case 2: half_gradient<T, 2>(q, j, gradient); break;
      case 3: half_gradient<T, 3>(q, j, gradient); break;
      default: half_gradient<T, 4>(q, j, gradient);
    }
  }
  Sum squares;
  read(squares, q.s, 1);
  for (index_t a = 0; a < q.p; ++a) {
    Sum g, c;
    read(g, gradient + a, q.p);
    read(c, q.c + a, q.p);
    squares = add_product(squares, subtract(g, c), static_cast<double>(q.w[a * q.w_stride]));
    gradient[a] = value(g);
  }
  return value(squares);
}

}  // namespace
