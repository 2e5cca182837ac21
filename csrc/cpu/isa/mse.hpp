// Squared error of one chunk and its gradient, one pass.
#pragma once

#include "simd.hpp"

namespace {

template <class T>
T mse_chunk(index_t n, const T* pred, const T* target, T* out, T gradient) {
  constexpr int H = Lanes16<T>::H;
  Lanes16<T> acc = {};
  const vec<T> factor = broadcast(gradient);
  index_t i = 0;
  for (; i + 16 <= n; i += 16) {
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) {
      const vec<T> r = load(pred + i + h * W<T>) - load(target + i + h * W<T>);
      acc.h[h] = fma(r, r, acc.h[h]);
      if (out) store(out + i + h * W<T>, factor * r);
    }
  }
  for (int h = 0; h < H && i + h * W<T> < n; ++h) {
    const index_t at = i + h * W<T>;
    const int lanes = n - at < W<T> ? static_cast<int>(n - at) : W<T>;
    const vec<T> r = load_first(pred + at, lanes) - load_first(target + at, lanes);
    acc.h[h] = keep_first(lanes, fma(r, r, acc.h[h]), acc.h[h]);
    if (out) store_first(out + at, lanes, factor * r);
  }
  return sum16(acc);
}

}  // namespace
