// The loops of the linear model: dot products of rows, residuals, X^T residual, in one pass.
#pragma once

#include "few_features.hpp"
#include "many_features.hpp"

namespace {

template <class T>
void dot_rows(index_t rows, index_t k, bool has_few_features, const T* X, index_t ldx, const T* w,
              T* out) {
  if (has_few_features)
    return few_features_of(k, [&](auto d) { dot_few_features<T, d.value>(rows, k, X, w, out); });
  const index_t ahead = lead_of<T>(W<T>, ldx);
  constexpr int few = rows_in_registers<T> < 4 ? rows_in_registers<T> : 4;
  index_t i = 0;
  for (; i + W<T> <= rows; i += W<T>) store(out + i, dot_block<T>(k, X + i * ldx, ldx, w, ahead));
  for (; i + few <= rows; i += few) dots_few<T, few>(k, X + i * ldx, ldx, w, out + i);
  for (; i < rows; ++i) dots_few<T, 1>(k, X + i * ldx, ldx, w, out + i);
}

// P lanes of the columns, one vector of rows each.
template <class T, int P>
void dot_columns(index_t rows, index_t k, const T* X, index_t ldx, const T* w, T* out) {
  for (index_t i = 0; i < rows; i += W<T>) {
    const int lanes = at_most(W<T>, rows - i);
    const First<T> mask = first_lanes<T>(lanes);
    const T* x = X + i;
    vec<T> acc[P] = {};
    index_t p = 0;
    for (; p + P <= k; p += P) {
#pragma GCC unroll 16
      for (int s = 0; s < P; ++s, x += ldx) {
        prefetch(x, prefetch_bytes);
        acc[s] = fma(load(x, mask), broadcast(w[p + s]), acc[s]);
      }
    }
#pragma GCC unroll 16
    for (int s = 0; s < P; ++s)
      if (p + s < k) acc[s] = fma(load(x + s * ldx, mask), broadcast(w[p + s]), acc[s]);
#pragma GCC unroll 4
    for (int half = P / 2; half >= 1; half /= 2)
#pragma GCC unroll 8
      for (int s = 0; s < half; ++s) acc[s] += acc[s + half];
    store_first(out + i, lanes, acc[0]);
  }
}

template <class T>
void dot_columns(index_t rows, index_t k, index_t lanes, const T* X, index_t ldx, const T* w,
                 T* out) {
  switch (lanes) {
    case 1: return dot_columns<T, 1>(rows, k, X, ldx, w, out);
    case 2: return dot_columns<T, 2>(rows, k, X, ldx, w, out);
    case 4: return dot_columns<T, 4>(rows, k, X, ldx, w, out);
    case 8: return dot_columns<T, 8>(rows, k, X, ldx, w, out);
    default: return dot_columns<T, 16>(rows, k, X, ldx, w, out);
  }
}

template <class T, class Loss>
void linear_block(const LinearRows<T>& x, T* partial, T* lanes, bool first, bool last) {
  Residuals<T, Loss> residuals(x, 0);
  if (!first) residuals.sums = load16(lanes), residuals.losses = load16(lanes + 16);
  add_rows(x, residuals, partial, first);
  if (last) return residuals.finish(partial + x.d);
  store16(lanes, residuals.sums);
  store16(lanes + 16, residuals.losses);
}

template <class T, class Loss>
void linear_rows(const LinearRows<T>& x, T* partial, index_t stride) {
  if (x.d < 1 || x.d > 16) return linear_many_features<T, Loss>(x, partial, stride);
  few_features_of(x.d, [&](auto d) { linear_few_features<T, Loss, d.value>(x, partial, stride); });
}

template <class T, template <class> class Loss>
constexpr gdcore::LinearKernels<T> linear_kernels = {
    linear_rows<T, Loss<vec<T>>>, linear_block<T, Loss<vec<T>>>, residuals<T, Loss<vec<T>>>};

}  // namespace
