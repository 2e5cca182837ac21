// Second moments of groups whose rows lie anywhere: products of a row's numbers, added to the sums
// of its group in a table.
#pragma once

#include "permute.hpp"
#include "table.hpp"
#include "to_double.hpp"

namespace {

// The upper triangle of z z^T, z = [x 1 y] of D + 2 numbers, row after row.
template <int D>
struct Triangle {
  static constexpr int columns = D + 2, size = columns * (columns + 1) / 2;
  static constexpr int vectors = (size + 7) / 8;
  static constexpr int row(int k) {
    int a = 0;
    while (a < columns && k >= columns - a) k -= columns - a++;
    return a < columns ? a : 0;
  }
  static constexpr int column(int k) {
    int a = 0;
    while (a < columns && k >= columns - a) k -= columns - a++;
    return a < columns ? a + k : 0;
  }
  static constexpr int ones = D * columns - D * (D - 1) / 2;  // the place of 1 * 1
};

#if GDCORE_VECTOR_BYTES == 64

template <int D, int From, int... I>
inline vec<double> left_of(vec<double> z, Indices<I...>) {
  return shuffle<double>(z, Indices<Triangle<D>::row(From + I)...>());
}
template <int D, int From, int... I>
inline vec<double> right_of(vec<double> z, Indices<I...>) {
  return shuffle<double>(z, Indices<Triangle<D>::column(From + I)...>());
}

template <int D>
inline void add_products(const float* x, float y, double* sums) {
  typedef typename FirstIndices<8>::type Eight;
  const vec<double> ones = broadcast(1.0);
  const vec<double> z = blend(2u << D, blend(1u << D, load_first_as_double(x, D), ones),
                              broadcast(static_cast<double>(y)));
  unroll<Triangle<D>::vectors>([&](auto v) {
    constexpr int from = 8 * decltype(v)::value;
    store(sums + from,
          fma(left_of<D, from>(z, Eight()), right_of<D, from>(z, Eight()), load(sums + from)));
  });
}

#else

// A product of two floats is exact in double, so that it may be rounded before it is added.
template <int D>
inline void add_products(const float* x, float y, double* sums) {
  double z[D + 2];
  for (int j = 0; j < D; ++j) z[j] = x[j];
  z[D] = 1;
  z[D + 1] = y;
  unroll<Triangle<D>::size>([&](auto k) {
    constexpr int at = decltype(k)::value;
    sums[at] += z[Triangle<D>::row(at)] * z[Triangle<D>::column(at)];
  });
}

#endif

template <int D>
int64_t sum_rows_by_group(const gdcore::GroupSumsArgs& q) {
  constexpr index_t ahead = 24;  // rows whose sums are fetched from memory meanwhile
  const auto sums_of = [&](index_t i) {
    return q.table + static_cast<index_t>(q.group[i * q.group_step]) * q.entry;
  };
  const double full = static_cast<double>(q.segment);
  for (index_t i = 0; i < q.rows; ++i) {
    if (i + ahead < q.rows) {
      const double* const next = sums_of(i + ahead);
      for (int v = 0; v < Triangle<D>::vectors; ++v) __builtin_prefetch(next + 8 * v, 1);
    }
    double* const sums = sums_of(i);
    add_products<D>(q.X + i * q.X_rs, q.y[i * q.y_rs], sums);
    if (__builtin_expect(sums[Triangle<D>::ones] == full, 0)) return i + 1;
  }
  return q.rows;
}

inline int64_t group_sums(const gdcore::GroupSumsArgs& q) {
  switch (q.d) {
    case 1: return sum_rows_by_group<1>(q);
    case 2: return sum_rows_by_group<2>(q);
    case 3: return sum_rows_by_group<3>(q);
    case 4: return sum_rows_by_group<4>(q);
    case 5: return sum_rows_by_group<5>(q);
    default: return sum_rows_by_group<6>(q);
  }
}

}  // namespace
