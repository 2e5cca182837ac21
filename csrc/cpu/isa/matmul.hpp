// The register tile of matmul.
#pragma once

#include "simd.hpp"

namespace {

// MR rows of NV vectors, MR * NV accumulators: as many as the registers hold beside one row of b.
#if GDCORE_VECTOR_BYTES == 64
constexpr int MR = 14, NV = 2;
#elif GDCORE_VECTOR_BYTES == 32
constexpr int MR = 6, NV = 2;
#elif defined(__ARM_NEON)
constexpr int MR = 8, NV = 3;
#else
constexpr int MR = 4, NV = 2;
#endif

// R rows of N vectors, the last of them `last` lanes wide (W: whole).
template <class T, int R, int N, bool Whole>
void tile_of(index_t k, const T* a, index_t a_rs, index_t a_cs, const T* b, index_t b_rs, T* c,
             index_t c_rs, int last, bool accumulate) {
  vec<T> acc[R][N] = {};
  for (index_t p = 0; p < k; ++p) {
    vec<T> row[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j)
      row[j] = Whole || j < N - 1 ? load(b + j * W<T>) : load_first(b + j * W<T>, last);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const vec<T> left = broadcast(a[i * a_rs]);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) acc[i][j] = fma(left, row[j], acc[i][j]);
    }
    a += a_cs;
    b += b_rs;
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      T* out = c + i * c_rs + j * W<T>;
      if (Whole || j < N - 1)
        store(out, accumulate ? load(out) + acc[i][j] : acc[i][j]);
      else
        store_first(out, last, accumulate ? load_first(out, last) + acc[i][j] : acc[i][j]);
    }
  }
}

template <class T>
using TileFn = void (*)(index_t, const T*, index_t, index_t, const T*, index_t, T*, index_t, int,
                        bool);

template <class T, int R>
struct TileRow {
  static constexpr void fill(TileFn<T> (*table)[NV][2]) {
    set<1>(table[R - 1]);
    if constexpr (R > 1) TileRow<T, R - 1>::fill(table);
  }
  template <int N>
  static constexpr void set(TileFn<T> (*row)[2]) {
    row[N - 1][0] = tile_of<T, R, N, false>;
    row[N - 1][1] = tile_of<T, R, N, true>;
    if constexpr (N < NV) set<N + 1>(row);
  }
};

template <class T>
struct TileTable {
  TileFn<T> entry[MR][NV][2];
  constexpr TileTable() : entry() { TileRow<T, MR>::fill(entry); }
};
template <class T>
constexpr TileTable<T> tiles{};

template <class T>
void tile(index_t k, const T* a, index_t a_rs, index_t a_cs, const T* b, index_t b_rs, T* c,
          index_t c_rs, int rows, int cols, bool accumulate) {
  const int vectors = (cols + W<T> - 1) / W<T>, last = cols - (vectors - 1) * W<T>;
  tiles<T>.entry[rows - 1][vectors - 1][last == W<T>](k, a, a_rs, a_cs, b, b_rs, c, c_rs, last,
                                                      accumulate);
}

}  // namespace
