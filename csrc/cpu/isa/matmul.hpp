// The register tiles of matmul.
#pragma once

#include "rows.hpp"
#include "table.hpp"
#include "vector.hpp"

namespace {

#if GDCORE_VECTOR_BYTES == 64 || defined(__ARM_NEON)
constexpr int registers = 32, NV = 4, one_tile_rows = 9;
#else
constexpr int registers = 16, NV = 2, one_tile_rows = 6;
#endif

// A tile is R rows of N vectors: R * N accumulators beside N vectors of b and one value of a.
constexpr int most_rows = 16, most_vectors = 8;
constexpr int tile_rows(int N) {
  const int rows = (registers - 1 - N) / N;
  return rows < 1 ? 1 : rows < most_rows ? rows : most_rows;
}

// Many rows take NV vectors each. A few are one tile of as many vectors as fit, so that b is read
// once and enough chains run to hide an fma's latency.
constexpr int vectors_of(index_t rows) {
  if (rows > one_tile_rows) return NV;
  int N = most_vectors;
  while (N > 1 && tile_rows(N) < rows) --N;
  return N;
}

// The tiles of G problems: R rows of N vectors each, the last of them `last` lanes wide (W: whole).
template <class T, int R, int N, int G, bool Whole>
[[gnu::always_inline]] inline void tile(const gdcore::TileRun<T>& run, const T* a, const T* b, T* c,
                                        int last) {
  vec<T> acc[G][R][N] = {};
  RowPointers<T, R> rows[G];
  const T* panel[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    rows[g] = RowPointers<T, R>(a + g * run.a_step, run.a_rs);
    panel[g] = b + g * run.b_step;
  }
  const auto each_vector = [&](auto f) {
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      T* row = c + g * run.c_step;
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) f(row + j * W<T>, Whole || j < N - 1, acc[g][i][j]);
        row += run.c_rs;
        asm("" : "+r"(row));  // one pointer for all rows, or the compiler spills one for each
      }
    }
  };
  if (run.into == gdcore::Into::resume)
    each_vector([&](const T* from, bool whole, vec<T>& sum) {
      sum = whole ? load(from) : load_first(from, last);
    });
  if (G == 1 && run.k >= 128) {  // long enough for c's lines to arrive
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) __builtin_prefetch(c + i * run.c_rs + j * W<T>, 1);
  }
  for (index_t p = 0; p < run.k; ++p) {
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      vec<T> right[N];
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j)
        right[j] =
            Whole || j < N - 1 ? load(panel[g] + j * W<T>) : load_first(panel[g] + j * W<T>, last);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const vec<T> left = broadcast(*rows[g].row(i));
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) acc[g][i][j] = fma(left, right[j], acc[g][i][j]);
      }
      rows[g].move(run.a_cs);
      panel[g] += run.b_rs;
    }
  }
  const bool adds = run.into == gdcore::Into::add;
  each_vector([&](T* out, bool whole, vec<T>& sum) {
    if (whole)
      store(out, adds ? load(out) + sum : sum);
    else
      store_first(out, last, adds ? load_first(out, last) + sum : sum);
  });
}

// Small tiles go several problems at a time: more chains to hide an fma's latency, and fewer loads
// that wait because a store just before them has the same address modulo 4096.
constexpr int problems_of(int R, int N) {
  const int G = registers / 2 / (R * N);
  return N > 1 || G < 1 ? 1 : G < 4 ? G : 4;
}

template <class T, int R, int N, bool Whole>
void tile_run(const gdcore::TileRun<T>& run, int last) {
  constexpr int G = problems_of(R, N);
  const T *a = run.a, *b = run.b;
  T* c = run.c;
  index_t i = 0;
  for (; i + G <= run.count; i += G) {
    tile<T, R, N, G, Whole>(run, a, b, c, last);
    a += G * run.a_step;
    b += G * run.b_step;
    c += G * run.c_step;
  }
  if constexpr (G > 1)
    for (; i < run.count; ++i) {
      tile<T, R, N, 1, Whole>(run, a, b, c, last);
      a += run.a_step;
      b += run.b_step;
      c += run.c_step;
    }
}

template <class T>
using TileFn = void (*)(const gdcore::TileRun<T>&, int last);

template <class T>
struct TileTable {
  TileFn<T> entry[most_rows][most_vectors][2];
  constexpr TileTable() : entry() { fill<1, 1>(); }

  template <int R, int N>
  constexpr void fill() {
    entry[R - 1][N - 1][0] = tile_run<T, R, N, false>;
    entry[R - 1][N - 1][1] = tile_run<T, R, N, true>;
    if constexpr (N < most_vectors && R <= tile_rows(N + 1))
      fill<R, N + 1>();
    else if constexpr (R < most_rows)
      fill<R + 1, 1>();
  }
};
template <class T>
constexpr TileTable<T> tiles{};

template <class T>
void run_tiles(const gdcore::TileRun<T>& run) {
  const int vectors = (run.cols + W<T> - 1) / W<T>, last = run.cols - (vectors - 1) * W<T>;
  tiles<T>.entry[run.rows - 1][vectors - 1][last == W<T>](run, last);
}

// Panels of equal width, then as many rows as fit.
template <class T>
gdcore::TileShape tile_shape(index_t m, index_t n) {
  const index_t vectors = (n + W<T> - 1) / W<T>, most = vectors <= NV ? NV : vectors_of(m);
  const index_t panels = (vectors + most - 1) / most;
  const int N = static_cast<int>((vectors + panels - 1) / panels);
  return {tile_rows(N), N * W<T>};
}

}  // namespace
