// vec<T>: GDCORE_VECTOR_BYTES of T as one GCC/Clang vector, and the few operations the language has
// no sign for.
#pragma once

#if defined(__FAST_MATH__)
#error "gdcore defines every rounding: build without fast-math"
#endif

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

typedef int64_t index_t;

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(GDCORE_VECTOR_BYTES)));
  typedef T loose __attribute__((vector_size(GDCORE_VECTOR_BYTES), aligned(alignof(T)), may_alias));
};
template <class T>
using vec = typename VecOf<T>::type;
template <class T>
constexpr int W = GDCORE_VECTOR_BYTES / sizeof(T);

template <class T>
inline vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VecOf<T>::loose*>(p);
}
template <class T>
inline void store(T* p, vec<T> v) {
  *reinterpret_cast<typename VecOf<T>::loose*>(p) = v;
}

// What AddressSanitizer does not see, masked accesses and those past the caches: p[0], ... p[n - 1]
// are accessed here for it.
#ifdef GDCORE_SANITIZE
template <class T>
__attribute__((noinline)) void accessed(const T* p, int n) {
  for (int i = 0; i < n; ++i) static_cast<void>(static_cast<const volatile T*>(p)[i]);
}
#else
template <class T>
inline void accessed(const T*, int) {}
#endif

inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }

// a * b + c rounded once; broadcast; the first n lanes (the others read as +0 and are not written).
#if GDCORE_VECTOR_BYTES == 64
inline vec<float> fma(vec<float> a, vec<float> b, vec<float> c) {
  return (vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline vec<double> fma(vec<double> a, vec<double> b, vec<double> c) {
  return (vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
inline vec<float> broadcast(float x) { return (vec<float>)_mm512_set1_ps(x); }
inline vec<double> broadcast(double x) { return (vec<double>)_mm512_set1_pd(x); }
inline vec<float> load_first(const float* p, int n) {
  accessed(p, n);
  return (vec<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
inline vec<double> load_first(const double* p, int n) {
  accessed(p, n);
  return (vec<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
inline void store_first(float* p, int n, vec<float> v) {
  accessed(p, n);
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
inline void store_first(double* p, int n, vec<double> v) {
  accessed(p, n);
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
inline vec<float> keep_first(int n, vec<float> yes, vec<float> no) {
  return (vec<float>)_mm512_mask_mov_ps((__m512)no, (__mmask16)((1u << n) - 1), (__m512)yes);
}
inline vec<double> keep_first(int n, vec<double> yes, vec<double> no) {
  return (vec<double>)_mm512_mask_mov_pd((__m512d)no, (__mmask8)((1u << n) - 1), (__m512d)yes);
}
// Lane i of v where bit i of the mask is set, else of u.
inline vec<float> blend(unsigned mask, vec<float> u, vec<float> v) {
  return (vec<float>)_mm512_mask_blend_ps((__mmask16)mask, (__m512)u, (__m512)v);
}
inline vec<double> blend(unsigned mask, vec<double> u, vec<double> v) {
  return (vec<double>)_mm512_mask_blend_pd((__mmask8)mask, (__m512d)u, (__m512d)v);
}
#elif GDCORE_VECTOR_BYTES == 32
inline vec<float> fma(vec<float> a, vec<float> b, vec<float> c) {
  return (vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline vec<double> fma(vec<double> a, vec<double> b, vec<double> c) {
  return (vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
inline vec<float> broadcast(float x) { return (vec<float>)_mm256_set1_ps(x); }
inline vec<double> broadcast(double x) { return (vec<double>)_mm256_set1_pd(x); }
inline __m256i mask_first(float, int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i mask_first(double, int n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
inline vec<float> load_first(const float* p, int n) {
  accessed(p, n);
  return (vec<float>)_mm256_maskload_ps(p, mask_first(0.0f, n));
}
inline vec<double> load_first(const double* p, int n) {
  accessed(p, n);
  return (vec<double>)_mm256_maskload_pd(p, mask_first(0.0, n));
}
inline void store_first(float* p, int n, vec<float> v) {
  accessed(p, n);
  _mm256_maskstore_ps(p, mask_first(0.0f, n), (__m256)v);
}
inline void store_first(double* p, int n, vec<double> v) {
  accessed(p, n);
  _mm256_maskstore_pd(p, mask_first(0.0, n), (__m256d)v);
}
inline vec<float> keep_first(int n, vec<float> yes, vec<float> no) {
  return (vec<float>)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)mask_first(0.0f, n));
}
inline vec<double> keep_first(int n, vec<double> yes, vec<double> no) {
  return (vec<double>)_mm256_blendv_pd((__m256d)no, (__m256d)yes, (__m256d)mask_first(0.0, n));
}
#else
#if defined(__ARM_NEON)
inline vec<float> fma(vec<float> a, vec<float> b, vec<float> c) { return vfmaq_f32(c, a, b); }
inline vec<double> fma(vec<double> a, vec<double> b, vec<double> c) { return vfmaq_f64(c, a, b); }
#else
inline vec<float> fma(vec<float> a, vec<float> b, vec<float> c) {
  vec<float> r = {};
  for (int i = 0; i < W<float>; ++i) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return r;
}
inline vec<double> fma(vec<double> a, vec<double> b, vec<double> c) {
  vec<double> r = {};
  for (int i = 0; i < W<double>; ++i) r[i] = __builtin_fma(a[i], b[i], c[i]);
  return r;
}
#endif
template <class T>
inline vec<T> broadcast(T x) {
  vec<T> v;
  for (int i = 0; i < W<T>; ++i) v[i] = x;
  return v;
}
template <class T>
inline vec<T> load_first(const T* p, int n) {
  vec<T> v = {};
  for (int i = 0; i < W<T>; ++i)
    if (i < n) v[i] = p[i];
  return v;
}
template <class T>
inline void store_first(T* p, int n, vec<T> v) {
  for (int i = 0; i < W<T>; ++i)
    if (i < n) p[i] = v[i];
}
template <class V>
inline V keep_first(int n, V yes, V no) {
  for (int i = 0; i < int(sizeof(V) / sizeof(yes[0])); ++i)
    if (i < n) no[i] = yes[i];
  return no;
}
#endif

// Past the caches, so that a line is not read before it is written. p is aligned to a vector.
template <class T>
inline void stream(T* p, vec<T> v) {
  accessed(p, W<T>);
#if GDCORE_VECTOR_BYTES == 64
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif GDCORE_VECTOR_BYTES == 32
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__x86_64__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
  store(p, v);
#endif
}
inline void stream_end() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// The first n lanes, told once for many loads.
#if GDCORE_VECTOR_BYTES == 64
template <class T>
using First = unsigned;
template <class T>
inline First<T> first_lanes(int n) {
  return (1u << n) - 1;
}
inline vec<float> load(const float* p, First<float> mask) {
  accessed(p, __builtin_popcount(mask));
  return (vec<float>)_mm512_maskz_loadu_ps((__mmask16)mask, p);
}
inline vec<double> load(const double* p, First<double> mask) {
  accessed(p, __builtin_popcount(mask));
  return (vec<double>)_mm512_maskz_loadu_pd((__mmask8)mask, p);
}
#elif GDCORE_VECTOR_BYTES == 32
template <class T>
using First = __m256i;
template <class T>
inline First<T> first_lanes(int n) {
  return mask_first(T(0), n);
}
inline vec<float> load(const float* p, First<float> mask) {
  accessed(p, __builtin_popcount(_mm256_movemask_ps((__m256)mask)));
  return (vec<float>)_mm256_maskload_ps(p, mask);
}
inline vec<double> load(const double* p, First<double> mask) {
  accessed(p, __builtin_popcount(_mm256_movemask_pd((__m256d)mask)));
  return (vec<double>)_mm256_maskload_pd(p, mask);
}
#else
template <class T>
using First = int;
template <class T>
inline First<T> first_lanes(int n) {
  return n;
}
template <class T>
inline vec<T> load(const T* p, First<T> n) {
  return load_first(p, n);
}
#endif

// Lane i of the result is lane source(i) of v, or of u and v side by side, for a constant
// permutation.
template <int... I>
struct Lanes {};
template <int N, int... I>
struct CountLanes : CountLanes<N - 1, N - 1, I...> {};
template <int... I>
struct CountLanes<0, I...> {
  typedef Lanes<I...> type;
};

template <class T, int... I>
inline vec<T> shuffle(vec<T> u, vec<T> v, Lanes<I...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(u, v, I...);
#else
  typedef decltype(v < v) Index;
  return __builtin_shuffle(u, v, Index{I...});
#endif
}
template <class T, int... I>
inline vec<T> shuffle(vec<T> v, Lanes<I...> lanes) {
  return shuffle<T>(v, v, lanes);
}

// f(Int<0>), f(Int<1>), ... f(Int<N - 1>): a loop whose counter is a constant.
template <int I>
struct Int {
  static constexpr int value = I;
};
template <class F, int... I>
inline __attribute__((always_inline)) void unroll(F&& f, Lanes<I...>) {
  (f(Int<I>()), ...);
}
template <int N, class F>
inline __attribute__((always_inline)) void unroll(F&& f) {
  unroll(f, typename CountLanes<N>::type());
}

// Lane i takes lane i + H too, in every group of 2 H lanes (a butterfly: all lanes end with the
// group's sum).
template <class T, int H, int... I>
inline vec<T> add_distant(vec<T> v, Lanes<I...>) {
  return v + shuffle<T>(v, Lanes<(I ^ H)...>());
}
template <class T, int H>
inline vec<T> add_distant(vec<T> v) {
  return add_distant<T, H>(v, typename CountLanes<W<T>>::type());
}

// The same for two vectors at once: the sums of u stay in the lower H lanes of every group, those
// of v in the upper ones.
template <class T, int H, int... I>
inline vec<T> add_distant(vec<T> u, vec<T> v, Lanes<I...>) {
  constexpr int N = W<T>;
#if GDCORE_VECTOR_BYTES == 64  // gcc takes a shuffle where a blend leaves the shuffling port free
  const vec<T> own = blend(((I & H ? 1u << I : 0u) | ...), u, v);
#else
  const vec<T> own = shuffle<T>(u, v, Lanes<(I & H ? N + I : I)...>());
#endif
  return own + shuffle<T>(u, v, Lanes<(I & H ? N : 0) + (I ^ H)...>());
}

// v[s] holds W / P rows of P lanes each: every row's lanes folded P/2, ..., 1, rows in order.
template <class T, int P, int H>
inline void fold_rows(vec<T>* v) {
  if constexpr (H >= 1) {
#pragma GCC unroll 16
    for (int s = 0; s < H; ++s)
      v[s] = add_distant<T, H>(v[s], v[s + H], typename CountLanes<W<T>>::type());
    fold_rows<T, P, H / 2>(v);
  }
}
template <class T, int P, int... I>
inline vec<T> order_rows(vec<T> v, Lanes<I...>) {
  constexpr int rows = W<T> / P;  // of each vector
  return shuffle<T>(v, Lanes<I % rows * P + I / rows...>());
}
template <class T, int P>
inline vec<T> row_sums(vec<T>* v) {
  fold_rows<T, P, P / 2>(v);
  if constexpr (P == 1 || P == W<T>)
    return v[0];
  else
    return order_rows<T, P>(v[0], typename CountLanes<W<T>>::type());
}

// The rows of v[s] above, each value P times: lane i takes lane s W / P + i / P.
template <class T, int P, int S, int... I>
inline vec<T> spread(vec<T> v, Lanes<I...>) {
  return shuffle<T>(v, Lanes<S*(W<T> / P) + I / P...>());
}
template <class T, int P, int S>
inline vec<T> spread(vec<T> v) {
  return spread<T, P, S>(v, typename CountLanes<W<T>>::type());
}

// Rows of D elements that lie together, moved apart to P lanes each, +0 between them.
template <class T, int D, int P, int... I>
inline vec<T> pad_rows(vec<T> v, Lanes<I...>) {
  return shuffle<T>(v, vec<T>{}, Lanes < I % P<D ? I / P * D + I % P : W<T>...>());
}

// W rows of D <= 4 elements that lie together in v[0] to v[D - 1], turned to D columns.
template <class T, int D, int... I>
inline void columns(vec<T>* v, Lanes<I...>) {
  constexpr int N = W<T>;
  if constexpr (D == 2) {
    const vec<T> even = shuffle<T>(v[0], v[1], Lanes<2 * I...>());
    v[1] = shuffle<T>(v[0], v[1], Lanes<2 * I + 1 ...>());
    v[0] = even;
  } else if constexpr (D == 3) {
    vec<T> c[3];
    unroll<3>([&](auto j) {
      constexpr int J = j.value;
      const vec<T> head = shuffle<T>(v[0], v[1], Lanes<(3 * I + J) % (2 * N)...>());
      c[J] = shuffle<T>(head, v[2], Lanes<(3 * I + J < 2 * N ? I : 3 * I + J - N)...>());
    });
    v[0] = c[0], v[1] = c[1], v[2] = c[2];
  } else if constexpr (D == 4) {
    // Two columns of half the rows in each vector, then whole columns.
    vec<T> c[4];
    unroll<2>([&](auto j) {
      constexpr int J = 2 * j.value;
      typedef Lanes<(I < N / 2 ? 4 * I + J : 4 * (I - N / 2) + J + 1)...> Pair;
      const vec<T> low = shuffle<T>(v[0], v[1], Pair()), high = shuffle<T>(v[2], v[3], Pair());
      c[J] = shuffle<T>(low, high, Lanes<(I < N / 2 ? I : I + N / 2)...>());
      c[J + 1] = shuffle<T>(low, high, Lanes<(I < N / 2 ? I + N / 2 : I + N)...>());
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
