// Sums over lanes in the contract's order, and rows in lanes.
#pragma once

#include "permute.hpp"

namespace {

// Lane i takes lane i + H too, in every group of 2 H lanes (a butterfly: all lanes end with the
// group's sum).
template <class T, int H, int... I>
inline vec<T> add_distant(vec<T> v, Indices<I...>) {
  return v + shuffle<T>(v, Indices<(I ^ H)...>());
}
template <class T, int H>
inline vec<T> add_distant(vec<T> v) {
  return add_distant<T, H>(v, typename FirstIndices<W<T>>::type());
}

// The same for two vectors at once: the sums of u stay in the lower H lanes of every group, those
// of v in the upper ones.
template <class T, int H, int... I>
inline vec<T> add_distant(vec<T> u, vec<T> v, Indices<I...>) {
  constexpr int N = W<T>;
#if GDCORE_VECTOR_BYTES == 64  // gcc would shuffle; a blend leaves the shuffle port free
  const vec<T> own = blend(((I & H ? 1u << I : 0u) | ...), u, v);
#else
  const vec<T> own = shuffle<T>(u, v, Indices<(I & H ? N + I : I)...>());
#endif
  return own + shuffle<T>(u, v, Indices<(I & H ? N : 0) + (I ^ H)...>());
}

// v[s] holds W / P rows of P lanes each: every row's lanes folded P/2, ..., 1, rows in order.
template <class T, int P, int H>
inline void fold_rows(vec<T>* v) {
  if constexpr (H >= 1) {
#pragma GCC unroll 16
    for (int s = 0; s < H; ++s)
      v[s] = add_distant<T, H>(v[s], v[s + H], typename FirstIndices<W<T>>::type());
    fold_rows<T, P, H / 2>(v);
  }
}
template <class T, int P, int... I>
inline vec<T> order_rows(vec<T> v, Indices<I...>) {
  constexpr int rows = W<T> / P;  // of each vector
  return shuffle<T>(v, Indices<I % rows * P + I / rows...>());
}
template <class T, int P>
inline vec<T> row_sums(vec<T>* v) {
  fold_rows<T, P, P / 2>(v);
  if constexpr (P == 1 || P == W<T>)
    return v[0];
  else
    return order_rows<T, P>(v[0], typename FirstIndices<W<T>>::type());
}

// v[s] holds one row of W lanes, R of them: lane i of the result is the sum of row i mod R.
template <class T, int R, int H = W<T> / 2>
inline vec<T> repeated_row_sums(vec<T>* v) {
  if constexpr (H >= R) {
#pragma GCC unroll 16
    for (int s = 0; s < R; ++s) v[s] = add_distant<T, H>(v[s]);
    return repeated_row_sums<T, R, H / 2>(v);
  } else {
    fold_rows<T, R, R / 2>(v);
    return v[0];
  }
}

// The rows of v[s] above, each value P times: lane i takes lane s W / P + i / P.
template <class T, int P, int S, int... I>
inline vec<T> spread(vec<T> v, Indices<I...>) {
  return shuffle<T>(v, Indices<S*(W<T> / P) + I / P...>());
}
template <class T, int P, int S>
inline vec<T> spread(vec<T> v) {
  return spread<T, P, S>(v, typename FirstIndices<W<T>>::type());
}

// Contiguous rows of D elements, spread to P lanes each, with +0 between them.
template <class T, int D, int P, int... I>
inline vec<T> pad_rows(vec<T> v, Indices<I...>) {
  return shuffle<T>(v, vec<T>{}, Indices < I % P<D ? I / P * D + I % P : W<T>...>());
}

// W contiguous rows of D <= 4 elements in v[0] to v[D - 1], transposed to D columns.
template <class T, int D, int... I>
inline void columns(vec<T>* v, Indices<I...>) {
  constexpr int N = W<T>;
  if constexpr (D == 2) {
    const vec<T> even = shuffle<T>(v[0], v[1], Indices<2 * I...>());
    v[1] = shuffle<T>(v[0], v[1], Indices<2 * I + 1 ...>());
    v[0] = even;
  } else if constexpr (D == 3) {
    vec<T> c[3];
    unroll<3>([&](auto j) {
      constexpr int J = j.value;
      const vec<T> head = shuffle<T>(v[0], v[1], Indices<(3 * I + J) % (2 * N)...>());
      c[J] = shuffle<T>(head, v[2], Indices<(3 * I + J < 2 * N ? I : 3 * I + J - N)...>());
    });
    v[0] = c[0], v[1] = c[1], v[2] = c[2];
  } else if constexpr (D == 4) {
    // Two columns of half the rows in each vector, then whole columns.
    vec<T> c[4];
    unroll<2>([&](auto j) {
      constexpr int J = 2 * j.value;
      typedef Indices<(I < N / 2 ? 4 * I + J : 4 * (I - N / 2) + J + 1)...> Pair;
      const vec<T> low = shuffle<T>(v[0], v[1], Pair()), high = shuffle<T>(v[2], v[3], Pair());
      c[J] = shuffle<T>(low, high, Indices<(I < N / 2 ? I : I + N / 2)...>());
      c[J + 1] = shuffle<T>(low, high, Indices<(I < N / 2 ? I + N / 2 : I + N)...>());
    });
    v[0] = c[0], v[1] = c[1], v[2] = c[2], v[3] = c[3];
  }
}

// The 16 lanes of the contract, as H vectors.
template <class T>
struct Lanes16 {
  static constexpr int H = 16 / W<T>;
  vec<T> h[H];
};

template <class T>
inline Lanes16<T> load16(const T* p) {
  Lanes16<T> v;
  for (int h = 0; h < Lanes16<T>::H; ++h) v.h[h] = load(p + h * W<T>);
  return v;
}
template <class T>
inline void store16(T* p, const Lanes16<T>& v) {
  for (int h = 0; h < Lanes16<T>::H; ++h) store(p + h * W<T>, v.h[h]);
}

// Lanes folded in the contract's order, W / 2 or 8 first, until the first P hold the sums.
template <class T, int P>
inline vec<T> fold(vec<T> v) {
  if constexpr (W<T> > 8 && P <= 8) v = add_distant<T, 8>(v);
  if constexpr (W<T> > 4 && P <= 4) v = add_distant<T, 4>(v);
  if constexpr (W<T> > 2 && P <= 2) v = add_distant<T, 2>(v);
  if constexpr (P <= 1) v = add_distant<T, 1>(v);
  return v;
}
template <int P, class T>
inline void fold_to(Lanes16<T>& v) {
  for (int half = Lanes16<T>::H / 2; half >= 1 && half * W<T> >= P; half /= 2)
    for (int h = 0; h < half; ++h) v.h[h] += v.h[h + half];
  v.h[0] = fold<T, P>(v.h[0]);
}

template <class T>
inline T sum16(Lanes16<T> v) {
  fold_to<1>(v);
  return v.h[0][0];
}

}  // namespace
