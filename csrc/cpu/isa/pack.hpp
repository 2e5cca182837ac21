// Panels for matmul: `width` neighbours of each k side by side, so that the tile reads one stream.
#pragma once

#include "permute.hpp"
#include "table.hpp"

namespace {

// Swaps the off-diagonal H x H blocks of every 2 H x 2 H block of rows a (upper) and b (lower).
template <class T, int H, int... I>
inline void swap_blocks(vec<T>& a, vec<T>& b, Indices<I...>) {
  const vec<T> upper = shuffle<T>(a, b, Indices<((I & H) ? I - H + W<T> : I)...>());
  const vec<T> lower = shuffle<T>(a, b, Indices<((I & H) ? I + W<T> : I + H)...>());
  a = upper;
  b = lower;
}

// Transposes the S x S block in the first S lanes of S rows.
template <class T, int S, int H = 1>
inline void transpose_block(vec<T>* rows) {
  if constexpr (H < S) {
#pragma GCC unroll 16
    for (int i = 0; i < S; ++i)
      if (!(i & H)) swap_blocks<T, H>(rows[i], rows[i + H], typename FirstIndices<W<T>>::type());
    transpose_block<T, S, 2 * H>(rows);
  }
}

// The first S columns of x (n,k), rows ld apart, n <= S <= W, as rows of out, ld_out apart; columns
// from n on are zero. Writes S of them, or `width` if that is less.
template <class T, int S>
inline void transpose_columns(int terms, int n, int width, const T* x, index_t ld, T* out,
                              index_t ld_out) {
  vec<T> rows[S] = {};
#pragma GCC unroll 16
  for (int i = 0; i < S; ++i)
    if (i < n) rows[i] = terms == W<T> ? load(x + i * ld) : load_first(x + i * ld, terms);
  transpose_block<T, S>(rows);
#pragma GCC unroll 16
  for (int q = 0; q < S; ++q) {
    if (q >= terms) break;
    if (width >= W<T>)
      store(out + q * ld_out, rows[q]);
    else
      store_first(out + q * ld_out, width < S ? width : S, rows[q]);
  }
}

// The same for a whole W x W block, without a branch.
template <class T>
inline void transpose_whole(const T* x, index_t ld, T* out, index_t ld_out) {
  vec<T> rows[W<T>];
#pragma GCC unroll 16
  for (int i = 0; i < W<T>; ++i) rows[i] = load(x + i * ld);
  transpose_block<T, W<T>>(rows);
#pragma GCC unroll 16
  for (int q = 0; q < W<T>; ++q) store(out + q * ld_out, rows[q]);
}

// out (k,width), rows ld_out apart = the transpose of x (n,k), S columns of the result.
template <class T, int S>
inline void transpose_panel(index_t k, int n, int width, const T* x, index_t ld, T* out,
                            index_t ld_out) {
  index_t p = 0;
  if (S == W<T> && n >= S)
    for (; p + S <= k; p += S) transpose_whole(x + p, ld, out + p * ld_out, ld_out);
  for (; p < k; p += S)
    transpose_columns<T, S>(k - p < S ? static_cast<int>(k - p) : S, n, width, x + p, ld,
                            out + p * ld_out, ld_out);
}

// A panel whose columns are the rows of x.
template <class T>
inline void pack_transposed(index_t k, int n, int width, const T* x, index_t ld, T* out,
                            index_t ld_out) {
  for (int j = 0; j < width; j += W<T>, x += W<T> * ld, out += W<T>) {
    const int columns = n - j < 0 ? 0 : n - j < W<T> ? n - j : W<T>, left = width - j;
    if (W<T> > 4 && left <= 4)
      transpose_panel<T, (W<T> < 4 ? W<T> : 4)>(k, columns, left, x, ld, out, ld_out);
    else if (W<T> > 8 && left <= 8)
      transpose_panel<T, (W<T> < 8 ? W<T> : 8)>(k, columns, left, x, ld, out, ld_out);
    else
      transpose_panel<T, W<T>>(k, columns, left, x, ld, out, ld_out);
  }
}

// W elements S apart; none is read past the last of them.
template <class T, int S, int... I>
inline vec<T> load_every(const T* x, Indices<I...>) {
  constexpr int N = W<T>;
  if constexpr (S == 1) return load(x);
  if constexpr (S == -1) return shuffle<T>(load(x - (N - 1)), Indices<(N - 1 - I)...>());
  if constexpr (S == 2)
    return shuffle<T>(load(x), load(x + N - 1), Indices<(2 * I < N ? 2 * I : 2 * I + 1)...>());
}

// n < W elements, two apart.
template <class T, int... I>
inline vec<T> alternate_lanes(vec<T> low, vec<T> high, Indices<I...>) {
  return shuffle<T>(low, high, Indices<(2 * I)...>());
}
template <class T>
inline vec<T> load_alternate(const T* x, int n) {
  const int reach = 2 * n - 1;
  const vec<T> low = load_first(x, reach < W<T> ? reach : W<T>);
  const vec<T> high = reach > W<T> ? load_first(x + W<T>, reach - W<T>) : vec<T>{};
  return alternate_lanes<T>(low, high, typename FirstIndices<W<T>>::type());
}

// The columns of a panel's row that fill no vector, from x and out on: `n` of `width`.
template <class T, int S>
inline void pack_rest(int n, int width, const T* x, index_t js, T* out) {
  if (S == 1 && W<T> > 4 && n > 0) return store_first(out, width, load_first(x, n));
  if (S == 2 && W<T> > 4 && n > 0) return store_first(out, width, load_alternate(x, n));
  int j = 0;
  for (; j < n; ++j, x += js) out[j] = *x;
  for (; j < width; ++j) out[j] = T(0);
}

// Rows whose elements are S apart.
template <class T, int S>
void pack_rows(const gdcore::PackRun<T>& run) {
  const int width = run.width, whole = run.n / W<T> * W<T>;
  T* out = run.out;
  for (index_t i = 0; i < run.count; ++i, out += run.k * width) {
    const T* const x = run.x + i * run.step;
    for (index_t p = 0; p < run.k; ++p)
      for (int j = 0; j < whole; j += W<T>)
        store(out + p * width + j,
              load_every<T, S>(x + p * run.ks + j * S, typename FirstIndices<W<T>>::type()));
    for (int j = whole; j < width; j += W<T>)
      for (index_t p = 0; p < run.k; ++p)
        pack_rest<T, S>(run.n - j, width - j < W<T> ? width - j : W<T>, x + p * run.ks + j * S, S,
                        out + p * width + j);
  }
}

// Rows of N elements, or of any number if N is 0, any distance apart.
template <class T, int N>
void pack_elements(const gdcore::PackRun<T>& run) {
  const int n = N != 0 ? N : run.n, width = N != 0 ? N : run.width;
  T* out = run.out;
  for (index_t i = 0; i < run.count; ++i) {
    const T* x = run.x + i * run.step;
    for (index_t p = 0; p < run.k; ++p, x += run.ks, out += width) {
#pragma GCC unroll 4
      for (int j = 0; j < n; ++j) out[j] = x[j * run.js];
      for (int j = n; j < width; ++j) out[j] = T(0);
    }
  }
}

// Columns that lie in memory as rows, forwards or (last row first) backwards.
template <class T>
void pack_columns(const gdcore::PackRun<T>& run) {
  const index_t from = run.ks == 1 ? 0 : run.k - 1;
  T* out = run.out + from * run.width;
  for (index_t i = 0; i < run.count; ++i, out += run.k * run.width)
    pack_transposed(run.k, run.n, run.width, run.x + i * run.step - from, run.js, out,
                    run.ks * run.width);
}

template <class T>
void pack(const gdcore::PackRun<T>& run) {
  if (run.n == 4 && run.width == 4) return pack_elements<T, 4>(run);
  if (run.js == 1) return pack_rows<T, 1>(run);
  if ((run.ks == 1 || run.ks == -1) && run.k > 1) return pack_columns(run);
  if (run.js == -1) return pack_rows<T, -1>(run);
  if (run.js == 2) return pack_rows<T, 2>(run);
  pack_elements<T, 0>(run);
}

}  // namespace
