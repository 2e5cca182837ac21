// Sums over 16 lanes, term i in lane i mod 16: held by one thread, or by four, of which thread q
// holds lanes 4q to 4q + 3, so that a segment is read 16 bytes a thread.
#pragma once

#include "contract.hpp"
#include "cuda/kernels/language.hpp"

namespace gdcore::cuda {

constexpr int quad = 4;

// Lane i takes lane i + h for h = lanes / 2, ..., 2, 1.
template <int h = V / 2, class T>
GDCORE_DEVICE T fold_lanes(T (&x)[V], int lanes) {
  if (lanes > h) {
    GDCORE_UNROLL
    for (int i = 0; i < h; ++i) x[i] += x[i + h];
  }
  if constexpr (h > 1)
    return fold_lanes<h / 2>(x, lanes);
  else
    return x[0];
}

// The same for lanes in four threads; the sum is the first's.
template <class T>
GDCORE_DEVICE T fold_quad(const T (&lanes)[4]) {
  constexpr unsigned warp = 0xffffffffu;
  T x[4];
  GDCORE_UNROLL
  for (int v = 0; v < 4; ++v) x[v] = lanes[v] + __shfl_down_sync(warp, lanes[v], 2, quad);
  GDCORE_UNROLL
  for (int v = 0; v < 4; ++v) x[v] += __shfl_down_sync(warp, x[v], 1, quad);
  return (x[0] + x[2]) + (x[1] + x[3]);
}

// Four neighbouring numbers.
template <class T>
struct Four {
  static constexpr int wide = sizeof(T) == 4 ? 4 : 2;
  Pack<T, wide> packs[4 / wide];

  GDCORE_DEVICE static Four load(const T* from) {
    Four x;
    GDCORE_UNROLL
    for (int i = 0; i < 4 / wide; ++i) x.packs[i] = reinterpret_cast<const Pack<T, wide>*>(from)[i];
    return x;
  }
  GDCORE_DEVICE void store(T* to) const {
    GDCORE_UNROLL
    for (int i = 0; i < 4 / wide; ++i) reinterpret_cast<Pack<T, wide>*>(to)[i] = packs[i];
  }
  GDCORE_DEVICE T& operator[](int i) { return packs[i / wide].v[i % wide]; }
  GDCORE_DEVICE T operator[](int i) const { return packs[i / wide].v[i % wide]; }
};

GDCORE_DEVICE bool is_aligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}

}  // namespace gdcore::cuda
