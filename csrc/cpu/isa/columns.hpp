// Products with so few columns that lanes of a tile would stay empty: here a lane is a row.
#pragma once

#include "matmul.hpp"
#include "pack.hpp"
#include "table.hpp"

namespace {

template <class T>
constexpr int few_columns = W<T> < 8 ? 1 : W<T> / 4;

// The first `rows` lanes from elements a stride apart.
template <class T>
inline vec<T> collect(const T* x, index_t stride, int rows) {
  if (stride == 1) return rows == W<T> ? load(x) : load_first(x, rows);
  T lane[W<T>] = {};
  for (int i = 0; i < rows; ++i) lane[i] = x[i * stride];
  return load(lane);
}

// c (rows,C), rows <= W, written or added to.
template <class T, int C>
inline void rows_times_columns(const gdcore::TileRun<T>& run, int rows, const T* a, const T* b,
                               T* c) {
  vec<T> acc[C] = {};
  const auto add = [&](vec<T> left) {
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) acc[j] = fma(left, broadcast(b[j]), acc[j]);
    b += run.b_rs;
  };
  index_t p = 0;
  if (run.a_cs == 1 && run.a_rs != 1)
    for (; run.k - p > W<T> / 4; p += W<T>) {
      const int terms = run.k - p < W<T> ? static_cast<int>(run.k - p) : W<T>;
      vec<T> x[W<T>] = {};
#pragma GCC unroll 16
      for (int i = 0; i < W<T>; ++i) {
        const T* const row = a + i * run.a_rs + p;
        if (i < rows) x[i] = terms == W<T> ? load(row) : load_first(row, terms);
      }
      transpose_block<T, W<T>>(x);
#pragma GCC unroll 16
      for (int q = 0; q < W<T>; ++q) {
        if (q >= terms) break;
        add(x[q]);
      }
    }
  for (; p < run.k; ++p) add(collect(a + p * run.a_cs, run.a_rs, rows));
  T sums[C][W<T>];
  for (int j = 0; j < C; ++j) store(sums[j], acc[j]);
  const bool adds = run.into == gdcore::Into::add;
  for (int i = 0; i < rows; ++i, c += run.c_rs)
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) c[j] = adds ? c[j] + sums[j][i] : sums[j][i];
}

// The last few rows are a tile.
template <class T, int C>
void columns_run(const gdcore::TileRun<T>& run) {
  const index_t left = run.rows % W<T>, whole = left > W<T> / 4 ? run.rows : run.rows - left;
  for (index_t i = 0; i < whole; i += W<T>)
    rows_times_columns<T, C>(run, whole - i < W<T> ? static_cast<int>(whole - i) : W<T>,
                             run.a + i * run.a_rs, run.b, run.c + i * run.c_rs);
  if (whole == run.rows) return;
  gdcore::TileRun<T> rest = run;
  rest.rows = left;
  rest.a += whole * run.a_rs;
  rest.c += whole * run.c_rs;
  run_tiles(rest);
}

template <class T>
void run_columns(const gdcore::TileRun<T>& run) {
  static_assert(few_columns<T> <= 4, "one case for each");
  if constexpr (few_columns<T> > 1)
    if (run.cols == 2) return columns_run<T, 2>(run);
  if constexpr (few_columns<T> > 2) {
    if (run.cols == 3) return columns_run<T, 3>(run);
    if (run.cols == 4) return columns_run<T, 4>(run);
  }
  columns_run<T, 1>(run);
}

}  // namespace
