// Sums of a double, or of a vector of them: rounded, or as pairs that keep what rounding lost.
#pragma once

#include "vector.hpp"

namespace {

template <class D>
struct Plain {
  D hi;
};

template <class D>
struct Pair {
  D hi, lo;
};

template <class D>
inline Pair<D> two_sum(D a, D b) {
  const D sum = a + b, z = sum - a;
  return {sum, (a - (sum - z)) + (b - z)};
}

template <class D>
inline Plain<D> add_product(Plain<D> x, D a, D b) {
  return {fma(a, b, x.hi)};
}
template <class D>
inline Pair<D> add_product(Pair<D> x, D a, D b) {
  const D product = a * b;
  const Pair<D> sum = two_sum(x.hi, product);
  return {sum.hi, x.lo + (sum.lo + fma(a, b, -product))};
}

// The same for sums that `add` or `value` takes: one that overflows may have an infinite lo where
// the other has NaN, and both make NaN of it.
inline Plain<vec<double>> add_product_fast(Plain<vec<double>> x, vec<double> a, vec<double> b) {
  return add_product(x, a, b);
}
inline Pair<vec<double>> add_product_fast(Pair<vec<double>> x, vec<double> a, vec<double> b) {
  const vec<double> product = a * b, sum = x.hi + product;
#if GDCORE_VECTOR_BYTES == 64  // Dekker's sum: the larger number is known without a branch
  const vec<double> large = larger(x.hi, product), small = smaller(x.hi, product);
  const vec<double> lost = small - (sum - large);
#else
  const vec<double> z = sum - x.hi;
  const vec<double> lost = add_by_fma(product - z, x.hi - (sum - z));
#endif
  return {sum, add_by_fma(add_by_fma(lost, fma(a, b, -product)), x.lo)};
}

inline Plain<vec<double>> add_number(Plain<vec<double>> x, vec<double> a) { return {x.hi + a}; }
inline Pair<vec<double>> add_number(Pair<vec<double>> x, vec<double> a) {
  const Pair<vec<double>> sum = two_sum(x.hi, a);
  return {sum.hi, x.lo + sum.lo};
}

// x + a b for an `a` of two parts.
template <class D>
inline Plain<D> add_product(Plain<D> x, Plain<D> a, D b) {
  return add_product(x, a.hi, b);
}
template <class D>
inline Pair<D> add_product(Pair<D> x, Pair<D> a, D b) {
  const Pair<D> sum = add_product(x, a.hi, b);
  return {sum.hi, fma(a.lo, b, sum.lo)};
}

template <class D>
inline Plain<D> subtract(Plain<D> x, Plain<D> y) {
  return {x.hi - y.hi};
}
template <class D>
inline Pair<D> subtract(Pair<D> x, Pair<D> y) {
  const Pair<D> sum = two_sum(x.hi, -y.hi);
  return {sum.hi, sum.lo + (x.lo - y.lo)};
}

template <class D>
inline D value(Plain<D> x) {
  return x.hi;
}
template <class D>
inline D value(Pair<D> x) {
  return x.hi + x.lo;
}

// The sums that belong to parameters of type T, and their parts in memory, `low` apart.
template <class T, class D>
struct SumOf;
template <class D>
struct SumOf<float, D> {
  typedef Plain<D> type;
};
template <class D>
struct SumOf<double, D> {
  typedef Pair<D> type;
};

inline void read(Plain<double>& x, const double* p, index_t) { x = {*p}; }
inline void read(Pair<double>& x, const double* p, index_t low) { x = {*p, p[low]}; }
inline void read(Plain<vec<double>>& x, const double* p, index_t) { x = {load(p)}; }
inline void read(Pair<vec<double>>& x, const double* p, index_t low) {
  x = {load(p), load(p + low)};
}
inline void read_first(Plain<vec<double>>& x, const double* p, index_t, int n) {
  x = {load_first(p, n)};
}
inline void read_first(Pair<vec<double>>& x, const double* p, index_t low, int n) {
  x = {load_first(p, n), load_first(p + low, n)};
}
inline void write_first(double* p, index_t, int n, Plain<vec<double>> x) {
  store_first(p, n, x.hi);
}
inline void write_first(double* p, index_t low, int n, Pair<vec<double>> x) {
  store_first(p, n, x.hi);
  store_first(p + low, n, x.lo);
}

template <class D>
inline Pair<D> add(Pair<D> x, Plain<D> y) {
  const Pair<D> sum = two_sum(x.hi, y.hi);
  return {sum.hi, sum.lo + (x.lo + D{})};
}
template <class D>
inline Pair<D> add(Pair<D> x, Pair<D> y) {
  const Pair<D> sum = two_sum(x.hi, y.hi);
  return {sum.hi, sum.lo + (x.lo + y.lo)};
}

inline void write(double* p, index_t, Plain<vec<double>> x) { store(p, x.hi); }
inline void write(double* p, index_t low, Pair<vec<double>> x) {
  store(p, x.hi);
  store(p + low, x.lo);
}

}  // namespace
