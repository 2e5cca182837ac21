// Many products of 2 x 2 or 4 x 4 that lie one after the other: a vector holds several of them, or
// some rows of one.
#pragma once

#include "permute.hpp"
#include "table.hpp"

namespace {

// Lane i is element (i / N, i % N) of its problem, or of its part of one. Term P of a's rows, and
// row P of b, once for each row in the vector.
template <class T, int N, int P, int... I>
inline vec<T> left_term(vec<T> a, Indices<I...>) {
  return shuffle<T>(a, Indices<(I / N * N + P)...>());
}
template <class T, int N, int P, int... I>
inline vec<T> right_row(vec<T> b, Indices<I...>) {
  constexpr int size = N * N < W<T> ? N * N : W<T>;
  return shuffle<T>(b, Indices<(I / size * size + P * N % size + I % N)...>());
}

// `parts` vectors of a and b are as many of c.
template <class T, int N>
inline void multiply_squares(const T* a, const T* b, T* c) {
  constexpr int parts = N * N > W<T> ? N * N / W<T> : 1, rows = N / parts;
  typedef typename FirstIndices<W<T>>::type Lanes;
  vec<T> right[N];
  unroll<N>([&](auto p) {
    constexpr int P = decltype(p)::value;
    right[P] = right_row<T, N, P>(load(b + P / rows * W<T>), Lanes());
  });
  vec<T> acc[parts] = {};
  unroll<parts>([&](auto part) {
    constexpr int i = decltype(part)::value;
    const vec<T> left = load(a + i * W<T>);
    unroll<N>([&](auto p) {
      constexpr int P = decltype(p)::value;
      acc[i] = fma(left_term<T, N, P>(left, Lanes()), right[P], acc[i]);
    });
  });
  for (int i = 0; i < parts; ++i) store(c + i * W<T>, acc[i]);
}

template <class T, int N>
index_t squares_run(index_t count, const T* a, const T* b, T* c) {
  constexpr int step = N * N > W<T> ? N * N : W<T>, problems = step / (N * N);
  index_t i = 0;
  for (; i + problems <= count; i += problems, a += step, b += step, c += step)
    multiply_squares<T, N>(a, b, c);
  return i;
}

// Returns how many of the first problems it did.
template <class T>
index_t run_squares(index_t n, index_t count, const T* a, const T* b, T* c) {
  if constexpr (W<T> >= 4) {  // whole rows in a vector, and no lane idle
    if (n == 2) return squares_run<T, 2>(count, a, b, c);
    if (n == 4) return squares_run<T, 4>(count, a, b, c);
  }
  return 0;
}

}  // namespace
