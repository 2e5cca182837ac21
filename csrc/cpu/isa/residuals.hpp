// Losses of a linear model: 16 rows at a time, with the sums in 16 lanes.
#pragma once

#include "contract.hpp"
#include "fold.hpp"
#include "loss.hpp"
#include "table.hpp"

namespace {

using gdcore::L;
using gdcore::LinearRows;
using gdcore::Reading;

constexpr int at_most(int most, index_t n) {
  return n < 0 ? 0 : n < most ? static_cast<int>(n) : most;
}

template <class Loss>
constexpr bool is_squared_error = false;
template <class V>
constexpr bool is_squared_error<gdcore::SquaredError<V>> = true;

template <class T, class Loss>
struct Residuals {
  Loss loss;
  const T *intercept, *offset, *y, *sample_weight;
  vec<T> b;
  Lanes16<T> losses = {}, sums = {};

  // Begins at row `first`.
  Residuals(const LinearRows<T>& x, index_t first)
      : loss(broadcast(x.delta)),
        intercept(x.intercept),
        offset(x.offset ? x.offset + first : nullptr),
        y(x.y ? x.y + first : nullptr),
        sample_weight(x.sample_weight ? x.sample_weight + first : nullptr),
        b(broadcast(x.intercept ? *x.intercept : T(0))) {}

  // v: products of rows at + h W and on. Returns weighted slopes; `lanes` of them are rows.
  template <bool Whole>
  [[gnu::always_inline]] inline vec<T> take(vec<T> v, index_t at, int h, int lanes) {
    vec<T> slope;
    const vec<T> weighted = slopes<Whole>(v, slope, at + h * W<T>, lanes);
    const vec<T> total = fma(weighted, loss.ratio(v, slope), losses.h[h]);
    const vec<T> sum = sums.h[h] + weighted;
    losses.h[h] = Whole ? total : keep_first(lanes, total, losses.h[h]);
    sums.h[h] = Whole ? sum : keep_first(lanes, sum, sums.h[h]);
    return weighted;
  }

  // The same without sums: those of the rows from `at` on. v becomes residuals.
  template <bool Whole>
  [[gnu::always_inline]] inline vec<T> slopes(vec<T>& v, vec<T>& slope, index_t at,
                                              int lanes) const {
    const auto get = [&](const T* p) { return Whole ? load(p + at) : load_first(p + at, lanes); };
    if (intercept) v += b;
    if (offset) v += get(offset);
    if (y) v -= get(y);
    slope = loss.slope(v);
    return sample_weight ? get(sample_weight) * slope : slope;
  }

  // The sum of slopes, then that of losses.
  inline void finish(T* out) const {
    out[0] = sum16(sums);
    out[1] = sum16(losses);
  }
};

template <class T, class Loss>
void residuals(index_t n, T* r, const LinearRows<T>& x, T* total) {
  Residuals<T, Loss> sums(x, 0);
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
  *total = sum16(sums.losses);
}

}  // namespace
