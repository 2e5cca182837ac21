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
  return (vec<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
inline vec<double> load_first(const double* p, int n) {
  return (vec<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
inline void store_first(float* p, int n, vec<float> v) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
inline void store_first(double* p, int n, vec<double> v) {
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
inline vec<float> keep_first(int n, vec<float> yes, vec<float> no) {
  return (vec<float>)_mm512_mask_mov_ps((__m512)no, (__mmask16)((1u << n) - 1), (__m512)yes);
}
inline vec<double> keep_first(int n, vec<double> yes, vec<double> no) {
  return (vec<double>)_mm512_mask_mov_pd((__m512d)no, (__mmask8)((1u << n) - 1), (__m512d)yes);
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
  return (vec<float>)_mm256_maskload_ps(p, mask_first(0.0f, n));
}
inline vec<double> load_first(const double* p, int n) {
  return (vec<double>)_mm256_maskload_pd(p, mask_first(0.0, n));
}
inline void store_first(float* p, int n, vec<float> v) {
  _mm256_maskstore_ps(p, mask_first(0.0f, n), (__m256)v);
}
inline void store_first(double* p, int n, vec<double> v) {
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

// Lane i of the result is lane source(i) of v, for a constant permutation.
template <int... I>
struct Lanes {};
template <int N, int... I>
struct CountLanes : CountLanes<N - 1, N - 1, I...> {};
template <int... I>
struct CountLanes<0, I...> {
  typedef Lanes<I...> type;
};

template <class T, int... I>
inline vec<T> shuffle(vec<T> v, Lanes<I...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(v, v, I...);
#else
  typedef decltype(v < v) Index;
  return __builtin_shuffle(v, Index{I...});
#endif
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

// Lane i takes lane i / P, or lane i * P: spreads a row's value over its P lanes, and gathers it
// back.
template <class T, int P, int... I>
inline vec<T> spread(vec<T> v, Lanes<I...>) {
  return shuffle<T>(v, Lanes<(I / P)...>());
}
template <class T, int P, int... I>
inline vec<T> gather(vec<T> v, Lanes<I...>) {
  return shuffle<T>(v, Lanes<(I * P % W<T>)...>());
}
template <class T, int P>
inline vec<T> spread(vec<T> v) {
  return spread<T, P>(v, typename CountLanes<W<T>>::type());
}
template <class T, int P>
inline vec<T> gather(vec<T> v) {
  return gather<T, P>(v, typename CountLanes<W<T>>::type());
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

// Lanes folded 8, 4, ... in the contract's order, until the first P hold the sums.
template <int P, class T>
inline void fold_to(Lanes16<T>& v) {
  for (int half = Lanes16<T>::H / 2; half >= 1 && half * W<T> >= P; half /= 2)
    for (int h = 0; h < half; ++h) v.h[h] += v.h[h + half];
  if constexpr (W<T> > 8 && P <= 8) v.h[0] = add_distant<T, 8>(v.h[0]);
  if constexpr (W<T> > 4 && P <= 4) v.h[0] = add_distant<T, 4>(v.h[0]);
  if constexpr (W<T> > 2 && P <= 2) v.h[0] = add_distant<T, 2>(v.h[0]);
  if constexpr (P <= 1) v.h[0] = add_distant<T, 1>(v.h[0]);
}

template <class T>
inline T sum16(Lanes16<T> v) {
  fold_to<1>(v);
  return v.h[0][0];
}

}  // namespace
