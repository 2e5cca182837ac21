// Residuals of a linear model: 16 rows at a time, the sums in 16 lanes.
#pragma once

#include "contract.hpp"
#include "vector.hpp"
#include "table.hpp"

namespace {

using gdcore::L;
using gdcore::LinearRows;

constexpr int at_most(int most, index_t n) {
  return n < 0 ? 0 : n < most ? static_cast<int>(n) : most;
}

template <class T>
struct Residuals {
  const T *intercept, *offset, *y, *sample_weight;
  vec<T> b;
  Lanes16<T> squares = {}, sums = {};

  // Of the rows from `first` on.
  Residuals(const LinearRows<T>& x, index_t first)
      : intercept(x.intercept),
        offset(x.offset ? x.offset + first : nullptr),
        y(x.y ? x.y + first : nullptr),
        sample_weight(x.sample_weight ? x.sample_weight + first : nullptr),
        b(broadcast(x.intercept ? *x.intercept : T(0))) {}

  // v: products of rows at + h W and on. Returns weighted residuals; `lanes` of them are rows.
  template <bool Whole>
  inline vec<T> take(vec<T> v, index_t at, int h, int lanes) {
    at += h * W<T>;
    const auto get = [&](const T* p) { return Whole ? load(p + at) : load_first(p + at, lanes); };
    if (intercept) v += b;
    if (offset) v += get(offset);
    if (y) v -= get(y);
    const vec<T> weighted = sample_weight ? get(sample_weight) * v : v;
    const vec<T> square = fma(weighted, v, squares.h[h]), sum = sums.h[h] + weighted;
    squares.h[h] = Whole ? square : keep_first(lanes, square, squares.h[h]);
    sums.h[h] = Whole ? sum : keep_first(lanes, sum, sums.h[h]);
    return weighted;
  }

  // The sum of residuals, then that of squares.
  inline void finish(T* out) const {
    out[0] = sum16(sums);
    out[1] = sum16(squares);
  }
};

template <class T>
void residuals(index_t n, T* r, const T* offset, const T* y, const T* sample_weight, T* squares) {
  LinearRows<T> x{};
  x.offset = offset;
  x.y = y;
  x.sample_weight = sample_weight;
  Residuals<T> sums(x, 0);
  for (index_t i = 0; i < n; i += 16) {
#pragma GCC unroll 8
    for (int h = 0; h < Lanes16<T>::H; ++h) {
      const index_t at = i + h * W<T>;
      const int lanes = at_most(W<T>, n - at);
      if (lanes == W<T>)
        store(r + at, sums.template take<true>(load(r + at), i, h, lanes));
      else if (lanes > 0)
        store_first(r + at, lanes,
                    sums.template take<false>(load_first(r + at, lanes), i, h, lanes));
    }
  }
  *squares = sum16(sums.squares);
}

}  // namespace
