// Squared error and its gradient, segment by segment.
#pragma once

#include "contract.hpp"
#include "fold.hpp"
#include "loss.hpp"

namespace {

// Sum of squares of one segment, and its gradient where `Store`.
template <class T, bool Store>
inline T mse_segment(index_t n, const T* pred, const T* target, T* out, vec<T> factor) {
  constexpr int H = Lanes16<T>::H;
  const gdcore::SquaredError<vec<T>> loss;
  Lanes16<T> acc = {};
  index_t i = 0;
  for (; i + 16 <= n; i += 16) {
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) {
      const index_t at = i + h * W<T>;
      if (at * sizeof(T) % 64 == 0) {
        __builtin_prefetch(reinterpret_cast<const char*>(pred + at) + 2048);
        __builtin_prefetch(reinterpret_cast<const char*>(target + at) + 2048);
      }
      const vec<T> r = load(pred + at) - load(target + at), slope = loss.slope(r);
      acc.h[h] = fma(slope, loss.ratio(r, slope), acc.h[h]);
      if (Store) store(out + at, factor * slope);
    }
  }
  for (int h = 0; h < H && i + h * W<T> < n; ++h) {
    const index_t at = i + h * W<T>;
    const int lanes = n - at < W<T> ? static_cast<int>(n - at) : W<T>;
    const vec<T> r = load_first(pred + at, lanes) - load_first(target + at, lanes);
    const vec<T> slope = loss.slope(r), total = fma(slope, loss.ratio(r, slope), acc.h[h]);
    acc.h[h] = keep_first(lanes, total, acc.h[h]);
    if (Store) store_first(out + at, lanes, factor * slope);
  }
  return sum16(acc);
}

// The gradient alone, by non-temporal stores.
template <class T>
inline void mse_stream(index_t n, const T* pred, const T* target, T* out, vec<T> factor) {
  const gdcore::SquaredError<vec<T>> loss;
  index_t i = 0;
  const auto part = [&](int lanes) {
    const vec<T> r = load_first(pred + i, lanes) - load_first(target + i, lanes);
    store_first(out + i, lanes, factor * loss.slope(r));
    i += lanes;
  };
  const index_t ahead = static_cast<index_t>(-reinterpret_cast<uintptr_t>(out) / sizeof(T) % W<T>);
  if (ahead > 0) part(static_cast<int>(ahead < n ? ahead : n));
  for (; i + W<T> <= n; i += W<T>)
    stream(out + i, factor * loss.slope(load(pred + i) - load(target + i)));
  if (i < n) part(static_cast<int>(n - i));
}

template <class T>
void mse(index_t n, const T* pred, const T* target, T* out, T gradient, bool streams, T* sums) {
  constexpr index_t segment = gdcore::L<T>,
                    block = 8 * segment;  // inputs stay in L1 for the stream
  const vec<T> factor = broadcast(gradient);
  for (index_t i0 = 0; i0 < n; i0 += block) {
    const index_t i1 = n - i0 < block ? n : i0 + block;
    for (index_t i = i0; i < i1; i += segment) {
      const index_t terms = i1 - i < segment ? i1 - i : segment;
      *sums++ = out && !streams
                    ? mse_segment<T, true>(terms, pred + i, target + i, out + i, factor)
                    : mse_segment<T, false>(terms, pred + i, target + i, nullptr, factor);
    }
    if (out && streams) mse_stream(i1 - i0, pred + i0, target + i0, out + i0, factor);
  }
  if (out && streams) stream_end();
}

}  // namespace
