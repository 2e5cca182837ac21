// Numbers of eight problems, one in each lane.
#pragma once

#include "cpu/lane_layout.hpp"
#include "to_double.hpp"
#include "vector.hpp"

namespace {

constexpr int LANES = gdcore::lanes;

// A number in each lane, in as many registers as that takes; and a mask of them.
template <class T>
struct Vec8Of {
  typedef T type __attribute__((vector_size(LANES * sizeof(T))));
  typedef T loose __attribute__((vector_size(LANES * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <class T>
using vec8 = typename Vec8Of<T>::type;
typedef vec8<int64_t> mask8;

template <class T>
inline vec8<T> load8(const T* p) {
  return *reinterpret_cast<const typename Vec8Of<T>::loose*>(p);
}
template <class T>
inline void store8(T* p, vec8<T> v) {
  *reinterpret_cast<typename Vec8Of<T>::loose*>(p) = v;
}

template <class T>
inline vec8<T> fma8(vec8<T> a, vec8<T> b, vec8<T> c) {
  vec8<T> r = {};
#if GDCORE_VECTOR_BYTES >= 32
  if constexpr (sizeof(T) == 4) return (vec8<T>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
  constexpr int parts = LANES / W<T> > 0 ? LANES / W<T> : 1;
  for (int i = 0; i < parts; ++i) {
    vec<T> x, y, z;
    __builtin_memcpy(&x, reinterpret_cast<char*>(&a) + i * sizeof x, sizeof x);
    __builtin_memcpy(&y, reinterpret_cast<char*>(&b) + i * sizeof y, sizeof y);
    __builtin_memcpy(&z, reinterpret_cast<char*>(&c) + i * sizeof z, sizeof z);
    x = fma(x, y, z);
    __builtin_memcpy(reinterpret_cast<char*>(&r) + i * sizeof x, &x, sizeof x);
  }
  return r;
}

// A mask of numbers of another size, as mask8 and back.
template <class Bits>
inline mask8 to_mask8(Bits yes) {
#if GDCORE_VECTOR_BYTES == 64
  if constexpr (sizeof(Bits) == 32) return (mask8)_mm512_maskz_cvtepi32_epi64(-1, (__m256i)yes);
#endif
  return __builtin_convertvector(yes, mask8);
}
template <class Bits>
inline Bits from_mask8(mask8 yes) {
#if GDCORE_VECTOR_BYTES == 64
  if constexpr (sizeof(Bits) == 32) return (Bits)_mm512_maskz_cvtepi64_epi32(-1, (__m512i)yes);
#endif
  return __builtin_convertvector(yes, Bits);
}

inline unsigned mask_of(mask8 yes) {
#if GDCORE_VECTOR_BYTES == 64
  return _mm512_movepi64_mask((__m512i)yes);
#else
  unsigned mask = 0;
  for (int l = 0; l < LANES; ++l) mask |= static_cast<unsigned>(yes[l] & 1) << l;
  return mask;
#endif
}

// As many lanes from `at` on as a vector of doubles holds, in double; and back.
template <class T>
inline vec<double> wide_part(const vec8<T>& v, int at) {
  if constexpr (W<double> == LANES) return to_double<T>(v);
  return load_as_double(reinterpret_cast<const T*>(&v) + at);
}
template <class T>
inline void insert(vec8<T>& v, int at, vec<double> x) {
  if constexpr (W<double> == LANES)
    v = from_double<T>(x);
  else
    store_from_double(reinterpret_cast<T*>(&v) + at, x);
}

}  // namespace
