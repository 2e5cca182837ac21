// Second moments of eight problems at a time, a problem in each lane.
#pragma once

#include "lanes.hpp"
#include "pack.hpp"
#include "pairs.hpp"

namespace {

// ---- Rows turned into lanes ----

// Elements that lie together in each lane's memory, as that many rows of lanes in double.
template <class T>
struct Turn;

template <>
struct Turn<double> {
  static constexpr int elements = W<double>, lanes = W<double>;
  // load_lane(l) returns the elements of lane l, with zeros for those that it does not have.
  template <class Load>
  static inline void run(const Load& load_lane, double* out) {
    vec<double> rows[lanes];
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) rows[l] = load_lane(l);
    transpose_block<double, lanes>(rows);
#pragma GCC unroll 8
    for (int e = 0; e < elements; ++e) store(out + e * LANES, rows[e]);
  }
  static inline vec<double> whole(const double* p) { return load(p); }
  static inline vec<double> first(const double* p, int n) { return load_first(p, n); }
};

// In registers of 16 bytes, or two of them side by side: lanes l and l + 4.
template <>
struct Turn<float> {
  static constexpr int elements = 4, lanes = GDCORE_VECTOR_BYTES == 64 ? 8 : 4;
  typedef float LooseQuad __attribute__((vector_size(16), aligned(4), may_alias));
  typedef float Row __attribute__((vector_size(4 * lanes)));

  template <class Load>
  static inline void run(const Load& load_lane, double* out) {
    Row r[4];
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l)
      if constexpr (lanes == 8)
        r[l] = side_by_side(load_lane(l), load_lane(l + 4));
      else
        r[l] = load_lane(l);
    const Row a = mix<0, 1>(r[0], r[1]), b = mix<2, 3>(r[0], r[1]);
    const Row c = mix<0, 1>(r[2], r[3]), d = mix<2, 3>(r[2], r[3]);
    put(join<0>(a, c), out);
    put(join<2>(a, c), out + LANES);
    put(join<0>(b, d), out + 2 * LANES);
    put(join<2>(b, d), out + 3 * LANES);
  }
  static inline quad whole(const float* p) { return *reinterpret_cast<const LooseQuad*>(p); }
  static inline quad first(const float* p, int n) {
    quad v = {};
    for (int e = 0; e < 4; ++e)
      if (e < n) v[e] = p[e];
    return v;
  }

 private:
  // a[I] b[I] a[J] b[J], and a[I] a[I+1] b[I] b[I+1]; of each quad.
  template <int I, int J>
  static inline Row mix(Row a, Row b) {
    if constexpr (lanes == 8)
      return shuffle_of(a, b, Indices<I, I + 8, J, J + 8, I + 4, I + 12, J + 4, J + 12>());
    else
      return shuffle_of(a, b, Indices<I, I + 4, J, J + 4>());
  }
  template <int I>
  static inline Row join(Row a, Row b) {
    if constexpr (lanes == 8)
      return shuffle_of(a, b, Indices<I, I + 1, I + 8, I + 9, I + 4, I + 5, I + 12, I + 13>());
    else
      return shuffle_of(a, b, Indices<I, I + 1, I + 4, I + 5>());
  }
  static inline void put(Row row, double* out) {
    for (int at = 0; at < lanes; at += W<double>)
      store(out + at, load_as_double(reinterpret_cast<const float*>(&row) + at));
  }
};

// Element e of lane l to out[e * LANES + l] for e < count, which is rounded up to a multiple of
// Turn's; lane l has `per_row` elements for each of its rows from `row` on.
template <class T>
inline void turn(const gdcore::LaneMoments<T>& q, const T* const* from, index_t per_row,
                 index_t row, index_t count, double* out) {
  typedef Turn<T> Of;
  const index_t whole = (q.fewest - row) * per_row - Of::elements;
  for (int at = 0; at < LANES; at += Of::lanes) {
    const T* p[Of::lanes];
#pragma GCC unroll 8
    for (int l = 0; l < Of::lanes; ++l) p[l] = from[at + l] + row * per_row;
    index_t e = 0;
    for (; e < count && e <= whole; e += Of::elements)
      Of::run([&](int l) { return Of::whole(p[l] + e); }, out + e * LANES + at);
    for (; e < count; e += Of::elements) {
      const auto part = [&](int l) {
        const index_t left = (q.n[at + l] - row) * per_row - e;
        const int n = left < 0 ? 0 : left < Of::elements ? static_cast<int>(left) : Of::elements;
        return Of::first(n == 0 ? from[at + l] : p[l] + e, n);
      };
      Of::run(part, out + e * LANES + at);
    }
  }
}

// ---- Sums over a panel of turned rows ----

// Rows of [X y]: z_j of row i is at X + (i * d + j) * LANES, the last column at y + i * LANES.
struct LanePanel {
  index_t rows, d;
  const double *X, *y;

  inline vec<double> at(index_t i, index_t j) const {
    return load(j < d ? X + (i * d + j) * LANES : y + i * LANES);
  }
};

constexpr int triangle_entry(int columns, int a, int b) {
  return a * columns - a * (a - 1) / 2 + b - a;
}

// How many sums the columns [a, end) of `columns` begin: their products with the columns from
// themselves on, and their own sums, of y alone without `ones`.
constexpr int strip_sums(int columns, bool ones, int a, int end) {
  const int products = triangle_entry(columns, end, end) - triangle_entry(columns, a, a);
  return products + (ones ? end - a : end == columns);
}

// The end of the columns from `a` on whose sums fit the registers, beside the columns.
template <class T>
constexpr int strip_end(int columns, bool ones, int a) {
#if GDCORE_VECTOR_BYTES == 64 || defined(__ARM_NEON)
  constexpr int registers = 29;
#else
  constexpr int registers = 13;
#endif
  constexpr int parts = sizeof(T) == 4 ? 1 : 3;
  int end = a + 1;
  while (end < columns && parts * strip_sums(columns, ones, a, end + 1) + columns - a <= registers)
    ++end;
  return end;
}

template <class T, int C, bool Ones, int A = 0>
inline void add_strips(const LanePanel& z, double* sums, index_t low) {
  typedef typename SumOf<T, vec<double>>::type Sum;
  if constexpr (A < C) {
    constexpr int B = strip_end<T>(C, Ones, A), first = triangle_entry(C, A, A);
    constexpr int products = triangle_entry(C, B, B) - first;
    constexpr int count = strip_sums(C, Ones, A, B), column = Ones ? A : C - 1;
    const auto place = [&](int k) {
      return sums + (k < products ? first + k : C * (C + 1) / 2 + column + k - products) * LANES;
    };
    const vec<double> one = broadcast(1.0);
    Sum sum[count];
#pragma GCC unroll 64
    for (int k = 0; k < count; ++k) read(sum[k], place(k), low);
    for (index_t i = 0; i < z.rows; ++i) {
      vec<double> x[C - A];
#pragma GCC unroll 16
      for (int j = A; j < C; ++j)
        x[j - A] = load(j + 1 < C ? z.X + (i * (C - 1) + j) * LANES : z.y + i * LANES);
      int k = 0;
#pragma GCC unroll 16
      for (int a = A; a < B; ++a)
#pragma GCC unroll 16
        for (int b = a; b < C; ++b, ++k) sum[k] = add_product(sum[k], x[a - A], x[b - A]);
#pragma GCC unroll 16
      for (; k < count; ++k) sum[k] = add_product(sum[k], x[column + k - products - A], one);
    }
#pragma GCC unroll 64
    for (int k = 0; k < count; ++k) write(place(k), low, sum[k]);
    add_strips<T, C, Ones, B>(z, sums, low);
  }
}

// Any number of columns, in tiles.
template <class T>
inline void add_tile(const LanePanel& z, index_t a0, index_t b0, double* sums, index_t low) {
  typedef typename SumOf<T, vec<double>>::type Sum;
  constexpr int N = 3;
  const index_t last = z.d;
  const auto place = [&](int r, int c) {
    const index_t a = a0 + r, b = b0 + c;
    return sums + (a * (last + 1) - a * (a - 1) / 2 + b - a) * LANES;
  };
  const auto there = [&](int r, int c) { return b0 + c <= last && a0 + r <= b0 + c; };
  Sum sum[N][N] = {};
  for (int r = 0; r < N; ++r)
    for (int c = 0; c < N; ++c)
      if (there(r, c)) read(sum[r][c], place(r, c), low);
  for (index_t i = 0; i < z.rows; ++i) {
    vec<double> right[N];
#pragma GCC unroll 3
    for (int c = 0; c < N; ++c) right[c] = z.at(i, b0 + c);
#pragma GCC unroll 3
    for (int r = 0; r < N; ++r) {
      const vec<double> left = z.at(i, a0 + r);
#pragma GCC unroll 3
      for (int c = 0; c < N; ++c) sum[r][c] = add_product(sum[r][c], left, right[c]);
    }
  }
  for (int r = 0; r < N; ++r)
    for (int c = 0; c < N; ++c)
      if (there(r, c)) write(place(r, c), low, sum[r][c]);
}

template <class T>
inline void add_tiles(const LanePanel& z, bool ones, double* sums, index_t low) {
  typedef typename SumOf<T, vec<double>>::type Sum;
  const index_t C = z.d + 1;
  for (index_t a = 0; a < C; a += 3)
    for (index_t b = a; b < C; b += 3) add_tile<T>(z, a, b, sums, low);
  for (index_t j = ones ? 0 : z.d; j < C; ++j) {
    double* const to = sums + (C * (C + 1) / 2 + j) * LANES;
    Sum sum;
    read(sum, to, low);
    for (index_t i = 0; i < z.rows; ++i) sum = add_product(sum, z.at(i, j), broadcast(1.0));
    write(to, low, sum);
  }
}

template <class T, bool Ones>
inline void add_rows(const LanePanel& z, double* sums, index_t low) {
  switch (z.d) {
    case 1: return add_strips<T, 2, Ones>(z, sums, low);
    case 2: return add_strips<T, 3, Ones>(z, sums, low);
    case 3: return add_strips<T, 4, Ones>(z, sums, low);
    case 4: return add_strips<T, 5, Ones>(z, sums, low);
    case 5: return add_strips<T, 6, Ones>(z, sums, low);
    case 8: return add_strips<T, 9, Ones>(z, sums, low);
    default: return add_tiles<T>(z, Ones, sums, low);
  }
}

constexpr int PANEL_ROWS = 32;

template <class T>
void moments_lanes(const gdcore::LaneMoments<T>& given) {
  const gdcore::LaneMoments<T> q = given;
  alignas(64) double X[PANEL_ROWS * (gdcore::most_lane_params - 1) * LANES], y[PANEL_ROWS * LANES];
  const index_t columns = q.d + 1, entries = columns * (columns + 1) / 2;
  for (index_t k = 0; k < (entries + columns) * LANES; ++k) q.sums[k] = q.sums[k + q.low] = 0;
  for (index_t row = 0; row < q.most; row += PANEL_ROWS) {
    const index_t rows = q.most - row < PANEL_ROWS ? q.most - row : PANEL_ROWS;
    turn(q, q.X, q.d, row, rows * q.d, X);
    turn(q, q.y, 1, row, rows, y);
    for (int at = 0; at < LANES; at += W<double>) {
      const LanePanel z{rows, q.d, X + at, y + at};
      q.ones ? add_rows<T, true>(z, q.sums + at, q.low) : add_rows<T, false>(z, q.sums + at, q.low);
    }
  }
}

}  // namespace
