// Products of few rows and columns over a long k: where c has too few elements to fill vectors, a
// lane is a segment. W terms of W segments are transposed in registers.
#pragma once

#include "pack.hpp"
#include "table.hpp"

namespace {

using gdcore::LineTerms;
using gdcore::segment_block;

// Vector q of out holds x[at[s] + q * S] in lane s, for q < W.
template <class T, int S>
[[gnu::always_inline]] inline void terms_to_lanes(const T* x, const index_t* at, vec<T>* out) {
#pragma GCC unroll 16
  for (int s = 0; s < W<T>; ++s)
    out[s] = load_every<T, S>(x + at[s], typename FirstIndices<W<T>>::type());
  transpose_block<T, W<T>>(out);
}

template <class T, int S>
void pack_terms(index_t terms, const T* x, const index_t* at, T* out, index_t ld) {
  for (index_t p = 0; p < terms; p += W<T>, x += W<T> * S, out += W<T> * ld) {
    vec<T> lanes[W<T>];
    terms_to_lanes<T, S>(x, at, lanes);
#pragma GCC unroll 16
    for (int q = 0; q < W<T>; ++q) store(out + q * ld, lanes[q]);
  }
}

// A block of `lines` lines as vectors: those of one term side by side. Lines whose elements
// alternate in memory are one line.
template <class T>
void pack_lines(index_t lines, const LineTerms<T>& from, const index_t* at, T* out) {
  const bool alternate = from.ks == lines * from.ls;
  const index_t count = alternate ? 1 : lines, stride = alternate ? from.ls : from.ks;
  const index_t terms = alternate ? segment_block * lines : segment_block, ld = W<T> * count;
  const T* x = from.x;
  for (index_t i = 0; i < count; ++i, x += from.ls, out += W<T>) {
    if (stride == 1) {
      pack_terms<T, 1>(terms, x, at, out, ld);
    } else if (stride == 2) {
      pack_terms<T, 2>(terms, x, at, out, ld);
    } else {
      for (index_t p = 0; p < terms; ++p)
        for (int s = 0; s < W<T>; ++s) out[p * ld + s] = x[at[s] + p * stride];
    }
  }
}

// A block of one row by N columns. left(p, lanes) gives the row's vectors of W terms from p on.
template <class T, int N, class Left>
[[gnu::always_inline]] inline void add_row(Left&& left, const T* right, T* sums) {
  vec<T> acc[N];
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) acc[j] = load(sums + j * W<T>);
  for (index_t p = 0; p < segment_block; p += W<T>, right += W<T> * N * W<T>) {
    vec<T> lanes[W<T>];
    left(p, lanes);
#pragma GCC unroll 16
    for (int q = 0; q < W<T>; ++q)
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) acc[j] = fma(lanes[q], load(right + (q * N + j) * W<T>), acc[j]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) store(sums + j * W<T>, acc[j]);
}

template <class T, int N>
void segments_by_columns(const gdcore::LanesOfSegments<T>& run) {
  index_t a_at[W<T>], b_at[W<T>];
  for (int s = 0; s < W<T>; ++s) {
    a_at[s] = run.first_term[s] * run.a.ks;
    b_at[s] = run.first_term[s] * run.b.ks;
  }
  T* const right = run.packing;
  T* const left = right + segment_block * N * W<T>;
  pack_lines<T>(N, run.b, b_at, right);
  const bool packs_a = run.a.ks != 1 && run.a.ks != 2;
  if (packs_a) pack_lines<T>(run.m, run.a, a_at, left);
  for (index_t i = 0; i < run.m; ++i) {
    const T* const x = run.a.x + i * run.a.ls;
    T* const sums = run.sums + i * N * W<T>;
    if (packs_a) {
      add_row<T, N>(
          [&](index_t p, vec<T>* lanes) {
#pragma GCC unroll 16
            for (int q = 0; q < W<T>; ++q) lanes[q] = load(left + ((p + q) * run.m + i) * W<T>);
          },
          right, sums);
    } else if (run.a.ks == 1) {
      add_row<T, N>([&](index_t p, vec<T>* lanes) { terms_to_lanes<T, 1>(x + p, a_at, lanes); },
                    right, sums);
    } else {
      add_row<T, N>([&](index_t p, vec<T>* lanes) { terms_to_lanes<T, 2>(x + 2 * p, a_at, lanes); },
                    right, sums);
    }
  }
}

template <class T>
void run_segments(const gdcore::LanesOfSegments<T>& run) {
  static_assert(gdcore::most_lines == 4, "one case for each");
  switch (run.n) {
    case 1: return segments_by_columns<T, 1>(run);
    case 2: return segments_by_columns<T, 2>(run);
    case 3: return segments_by_columns<T, 3>(run);
    default: return segments_by_columns<T, 4>(run);
  }
}

}  // namespace
