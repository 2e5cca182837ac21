// Constant permutations of the lanes of vectors, and loops whose counter is a constant.
#pragma once

#include "vector.hpp"

namespace {

// Lane i of the result is lane source(i) of v, or of u and v side by side, for a constant
// permutation.
template <int... I>
struct Indices {};
template <int N, int... I>
struct FirstIndices : FirstIndices<N - 1, N - 1, I...> {};
template <int... I>
struct FirstIndices<0, I...> {
  typedef Indices<I...> type;
};

template <class V, int... I>
inline V shuffle_of(V u, V v, Indices<I...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(u, v, I...);
#else
  typedef decltype(v < v) Index;
  return __builtin_shuffle(u, v, Index{I...});
#endif
}
template <class T, int... I>
inline vec<T> shuffle(vec<T> u, vec<T> v, Indices<I...> lanes) {
  return shuffle_of(u, v, lanes);
}
template <class T, int... I>
inline vec<T> shuffle(vec<T> v, Indices<I...> lanes) {
  return shuffle<T>(v, v, lanes);
}

// Four floats, and eight of which those are halves.
typedef float quad __attribute__((vector_size(16)));
typedef float two_quads __attribute__((vector_size(32)));
inline two_quads side_by_side(quad a, quad b) {
#if GDCORE_VECTOR_BYTES >= 32
  return (two_quads)_mm256_insertf128_ps(_mm256_castps128_ps256((__m128)a), (__m128)b, 1);
#else
  return two_quads{a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]};
#endif
}

// f(Int<0>), f(Int<1>), ... f(Int<N - 1>): a loop whose counter is a constant.
template <int I>
struct Int {
  static constexpr int value = I;
};
template <class F, int... I>
inline __attribute__((always_inline)) void unroll(F&& f, Indices<I...>) {
  (f(Int<I>()), ...);
}
template <int N, class F>
inline __attribute__((always_inline)) void unroll(F&& f) {
  unroll(f, typename FirstIndices<N>::type());
}

}  // namespace
