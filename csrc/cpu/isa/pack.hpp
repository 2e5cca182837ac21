// Panels for matmul: `width` neighbours of each k side by side, so that the tile reads one stream.
#pragma once

#include "simd.hpp"

namespace {

// Swaps the off-diagonal H x H blocks of every 2 H x 2 H block of rows a (upper) and b (lower).
template <class T, int H, int... I>
inline void swap_blocks(vec<T>& a, vec<T>& b, Lanes<I...>) {
  const vec<T> upper = shuffle<T>(a, b, Lanes<((I & H) ? I - H + W<T> : I)...>());
  const vec<T> lower = shuffle<T>(a, b, Lanes<((I & H) ? I + W<T> : I + H)...>());
  a = upper;
  b = lower;
}

// Transposes the S x S block in the first S lanes of S rows.
template <class T, int S, int H = 1>
inline void transpose_block(vec<T>* rows) {
  if constexpr (H < S) {
#pragma GCC unroll 16
    for (int i = 0; i < S; ++i)
      if (!(i & H)) swap_blocks<T, H>(rows[i], rows[i + H], typename CountLanes<W<T>>::type());
    transpose_block<T, S, 2 * H>(rows);
  }
}

// out (k,S), rows ld_out apart = the transpose of x (n,k), rows ld apart, n <= S <= W; columns from
// n on are zero. Writes S columns, or `width` if that is less.
template <class T, int S>
inline void transpose_columns(index_t k, int n, int width, const T* x, index_t ld, T* out,
                              index_t ld_out) {
  const int lanes = width < S ? width : S;
  for (index_t p = 0; p < k; p += S) {
    const int terms = k - p < S ? static_cast<int>(k - p) : S;
    vec<T> rows[S] = {};
#pragma GCC unroll 16
    for (int i = 0; i < S; ++i)
      if (i < n) rows[i] = terms == W<T> ? load(x + i * ld + p) : load_first(x + i * ld + p, terms);
    transpose_block<T, S>(rows);
#pragma GCC unroll 16
    for (int q = 0; q < S; ++q) {
      if (q >= terms) break;
      T* const to = out + (p + q) * ld_out;
      if (lanes == W<T>)
        store(to, rows[q]);
      else
        store_first(to, lanes, rows[q]);
    }
  }
}

template <class T>
inline void pack_transposed(index_t k, int n, int width, const T* x, index_t ld, T* out) {
  for (int j = 0; j < width; j += W<T>) {
    const int columns = n - j < 0 ? 0 : n - j < W<T> ? n - j : W<T>;
    if constexpr (W<T> > 4)
      if (width - j <= 4) {
        transpose_columns<T, 4>(k, columns, width - j, x + j * ld, ld, out + j, width);
        continue;
      }
    if constexpr (W<T> > 8)
      if (width - j <= 8) {
        transpose_columns<T, 8>(k, columns, width - j, x + j * ld, ld, out + j, width);
        continue;
      }
    transpose_columns<T, W<T>>(k, columns, width - j, x + j * ld, ld, out + j, width);
  }
}

// One panel: out[p * width + j] = x[p * ks + j * js] for j < n, zero for n <= j < width.
template <class T>
void pack(index_t k, int n, int width, const T* x, index_t ks, index_t js, T* out) {
  if (ks == 1 && js != 1 && k > 1) return pack_transposed(k, n, width, x, js, out);
  for (index_t p = 0; p < k; ++p, x += ks, out += width) {
    int j = 0;
    if (js == 1) {
      for (; j + W<T> <= n; j += W<T>) store(out + j, load(x + j));
      if (j < n && j + W<T> <= width) {
        store(out + j, load_first(x + j, n - j));
        j += W<T>;
      }
    }
    for (; j < n; ++j) out[j] = x[j * js];
    for (; j < width; ++j) out[j] = T(0);
  }
}

}  // namespace
