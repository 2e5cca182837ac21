// vec<T>: GDCORE_VECTOR_BYTES of T as one GCC/Clang vector, and operations for which the language
// has no operator.
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

// Accesses p[0], ... p[n - 1] for AddressSanitizer, which sees no masked and non-temporal accesses.
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

// a * b + c rounded once; broadcast; the first n lanes (further ones read as +0 and are not
// written).
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
// In each lane the number of larger magnitude, and the number of smaller magnitude.
inline vec<double> larger(vec<double> a, vec<double> b) {
  return (vec<double>)_mm512_maskz_range_pd(-1, (__m512d)a, (__m512d)b, 0b0111);
}
inline vec<double> smaller(vec<double> a, vec<double> b) {
  return (vec<double>)_mm512_maskz_range_pd(-1, (__m512d)a, (__m512d)b, 0b0110);
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

// Whether a lane of a comparison of doubles is true.
inline bool any(vec<index_t> yes) {
#if GDCORE_VECTOR_BYTES == 64
  return _mm512_movepi64_mask((__m512i)yes) != 0;
#elif GDCORE_VECTOR_BYTES == 32
  return _mm256_movemask_pd((__m256d)yes) != 0;
#else
  return (yes[0] | yes[1]) != 0;
#endif
}

inline vec<double> sqrt(vec<double> x) {
#if GDCORE_VECTOR_BYTES == 64
  return (vec<double>)_mm512_maskz_sqrt_pd(-1, (__m512d)x);
#elif GDCORE_VECTOR_BYTES == 32
  return (vec<double>)_mm256_sqrt_pd((__m256d)x);
#else
  for (int i = 0; i < W<double>; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
#endif
}

// a + b by the units for products. They are not those for sums on AMD's processors, and would wait
// where sums are many.
inline vec<double> add_by_fma(vec<double> a, vec<double> b) {
#if defined(__FMA__)
  vec<double> one = broadcast(1.0);
  asm("" : "+v"(one));  // or the compiler would make this a sum again
  return fma(a, one, b);
#else
  return a + b;
#endif
}

// Non-temporal store: avoids reading the line first. p is aligned to a vector.
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

// A mask of the first n lanes, for many loads.
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

}  // namespace
