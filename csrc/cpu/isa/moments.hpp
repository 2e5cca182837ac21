// Second moments: sums of products over rows.
#pragma once

#include "pairs.hpp"
#include "table.hpp"

namespace {

#if GDCORE_VECTOR_BYTES == 64 || defined(__ARM_NEON)
constexpr int accumulators = 24;  // in registers
#else
constexpr int accumulators = 12;
#endif

// Rows and vectors of a tile. A sum that is a pair takes two registers, and more beside them.
template <class T>
constexpr int rows_of_tile = accumulators / (sizeof(T) == 4 ? 3 : 6);
template <class T>
constexpr int tile_vectors = sizeof(T) == 4 ? 3 : 2;
// The last tile may be taller if it is narrow: [1 y] behind whole vectors of features alone would
// be too few chains to hide an fma's latency.
template <class T>
constexpr int tallest = rows_of_tile<T> == 8 ? 10 : rows_of_tile<T>;

// Beside extra rows fewer vectors fit into registers.
template <class T>
constexpr int vectors_beside_extra_rows = accumulators == 24 && sizeof(T) == 4 ? 2 : 1;

// Prefetches memory up to `end` in steps, evenly over the rows of all tiles. Prefetched all at
// once, it would hold up the products.
struct Prefetch {
  const char *at, *end;
  index_t step;
};

// Sums of R columns from i on, and of H extra rows, times C vectors from j on; of the extra rows
// times V vectors of extra rows.
template <class T, int R, int C, int H = 0, int V = 0>
inline void products_tile(const gdcore::ProductsArgs& x, Prefetch& prefetch, index_t i, index_t j) {
  typedef typename SumOf<T, vec<double>>::type Sum;
  Sum sum[R + H][C] = {}, corner[H + 1][V + 1] = {};
  double* const out = x.out + i * x.ldc + j;
  double* const extra_out = x.out + x.m * x.ldc;
  const auto each = [&](auto&& f) __attribute__((always_inline)) {
#pragma GCC unroll 14
    for (int r = 0; r < R + H; ++r)
#pragma GCC unroll 3
      for (int c = 0; c < C; ++c)
        f(sum[r][c], (r < R ? out + r * x.ldc : extra_out + (r - R) * x.ldc + j) + c * W<double>);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) f(corner[h][v], extra_out + h * x.ldc + x.extra + v * W<double>);
  };
  if (x.resume) each([&](Sum& one, const double* at) { read(one, at, x.low); });
  const double *a = x.a + i, *b = x.a + j, *extra = x.a + x.extra;
  const char* next = prefetch.at;
  const index_t step = next < prefetch.end ? prefetch.step : 0;
#pragma GCC unroll 2
  for (index_t p = 0; p < x.k; ++p, a += x.ld, b += x.ld, extra += x.ld, next += step) {
    __builtin_prefetch(next, 0, 2);
    vec<double> right[C];
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) right[c] = load(b + c * W<double>);
#pragma GCC unroll 14
    for (int r = 0; r < R + H; ++r) {
      const vec<double> left = broadcast(r < R ? a[r] : extra[r - R]);
#pragma GCC unroll 3
      for (int c = 0; c < C; ++c) sum[r][c] = add_product_fast(sum[r][c], left, right[c]);
#pragma GCC unroll 2
      for (int v = 0; r >= R && v < V; ++v)
        corner[r - R][v] = add_product_fast(corner[r - R][v], left, load(extra + v * W<double>));
    }
  }
  each([&](const Sum& one, double* at) { write(at, x.low, one); });
  prefetch.at = next;
}

// Three vectors at a time, but two and two rather than three and one.
template <class T, int R>
inline void products_rows(const gdcore::ProductsArgs& x, Prefetch& prefetch, index_t i) {
  constexpr int most = R > rows_of_tile<T> ? 2 : tile_vectors<T>;
  for (index_t j = i / W<double> * W<double>; j < x.n;) {
    const index_t vectors = (x.n - j + W<double> - 1) / W<double>;
    if (most == 3 && vectors != 4 && vectors >= 3) {
      products_tile<T, R, most>(x, prefetch, i, j);
      j += most * W<double>;
    } else if (vectors >= 2) {
      products_tile<T, R, 2>(x, prefetch, i, j);
      j += 2 * W<double>;
    } else {
      products_tile<T, R, 1>(x, prefetch, i, j);
      j += W<double>;
    }
  }
}

// The first rows, and H extra rows. The extra rows' products with each other are summed beside the
// first vector.
template <class T, int H>
inline void products_extra_rows(const gdcore::ProductsArgs& x, Prefetch& prefetch) {
  constexpr int R = rows_of_tile<T>, C = vectors_beside_extra_rows<T>;
  constexpr int V = (H + W<double> - 1) / W<double>;
  const index_t vectors = (x.n + W<double> - 1) / W<double>;
  products_tile<T, R, 1, H, V>(x, prefetch, 0, 0);
  index_t c = 1;
  for (; c + C <= vectors; c += C) products_tile<T, R, C, H>(x, prefetch, 0, c * W<double>);
  if (C > 1 && c < vectors) products_tile<T, R, 1, H>(x, prefetch, 0, c * W<double>);
}

template <class T, int R>
inline void products_last(const gdcore::ProductsArgs& x, Prefetch& prefetch, index_t i) {
  if (x.m - i == R) return products_rows<T, R>(x, prefetch, i);
  if constexpr (R > 1) products_last<T, R - 1>(x, prefetch, i);
}

template <class T>
void products(const gdcore::ProductsArgs& given) {
  const gdcore::ProductsArgs x = given;
  const index_t vectors = (x.n + W<double> - 1) / W<double>;
  const index_t tiles = 1 + x.m / rows_of_tile<T> * (vectors + 1) / 4;  // about
  Prefetch prefetch = {x.prefetch.at, x.prefetch.at + x.prefetch.bytes,
                       x.prefetch.bytes / (tiles * x.k) + 1};
  if (x.extra_rows == 2) products_extra_rows<T, 2>(x, prefetch);
  if (x.extra_rows == 3) products_extra_rows<T, 3>(x, prefetch);
  if (x.extra_rows == 4) products_extra_rows<T, 4>(x, prefetch);
  for (index_t i = x.extra_rows ? rows_of_tile<T> : 0; i < x.m; i += rows_of_tile<T>) {
    const bool narrow = x.n - i <= 2 * W<double>;
    if (x.m - i <= (narrow ? tallest<T> : rows_of_tile<T>))
      return products_last<T, tallest<T>>(x, prefetch, i);
    products_rows<T, rows_of_tile<T>>(x, prefetch, i);
  }
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

}  // namespace
