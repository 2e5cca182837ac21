// What this machine can do at most: products and sums a second, bytes a second.
#pragma once

#include "vector.hpp"

namespace {

// Chains enough to fill two units of latency 6 at the widest vectors. The result keeps them alive.
constexpr int CHAINS = 12;

template <class T>
T probe_fma(index_t rounds, T factor, T term) {
  const vec<T> x = broadcast(factor), y = broadcast(term);
  vec<T> acc[CHAINS];
#pragma GCC unroll 16
  for (int i = 0; i < CHAINS; ++i) acc[i] = broadcast(static_cast<T>(i));  // all different
  for (index_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; ++i) acc[i] = fma(acc[i], x, y);
  }
#pragma GCC unroll 16
  for (int i = 1; i < CHAINS; ++i) acc[0] += acc[i];
  return acc[0][0];
}

// f(i, s) for each vector i of n elements, n a multiple of 256, in turn from STREAMS places s a
// page apart: the prefetcher follows one stream a page, and one alone leaves memory idle
// (docs/experiments.md).
constexpr int STREAMS = 8;

template <class F>
inline void in_streams(index_t n, F f) {
  constexpr index_t page = 4096 / sizeof(float);
  for (index_t begin = 0; begin < n;) {
    const index_t part = (n - begin) / STREAMS, apart = part < page ? part : page;
    for (index_t i = begin; i < begin + apart; i += W<float>) {
#pragma GCC unroll 8
      for (int s = 0; s < STREAMS; ++s) f(i + s * apart, s);
    }
    begin += STREAMS * apart;
  }
}

inline float probe_read(index_t n, const float* in) {
  vec<float> acc[STREAMS] = {};
  in_streams(n, [&](index_t i, int s) { acc[s] += load(in + i); });
#pragma GCC unroll 8
  for (int s = 1; s < STREAMS; ++s) acc[0] += acc[s];
  return acc[0][0];
}

inline void probe_write(index_t n, float value, float* out, bool past_caches) {
  const vec<float> v = broadcast(value);
  if (past_caches) {
    for (index_t i = 0; i < n; i += W<float>) stream(out + i, v);
    stream_end();
  } else {
    for (index_t i = 0; i < n; i += W<float>) store(out + i, v);
  }
}

inline void probe_copy(index_t n, const float* in, float* out, bool past_caches) {
  if (past_caches) {
    in_streams(n, [&](index_t i, int) { stream(out + i, load(in + i)); });
    stream_end();
  } else {
    for (index_t i = 0; i < n; i += W<float>) store(out + i, load(in + i));
  }
}

}  // namespace
