// Sums and products without error: a pair hi + lo of doubles that do not overlap.
// Dekker 1971; Ogita, Rump, Oishi 2005, "Accurate sum and dot product".
#pragma once

#include <cmath>

#include "hd.hpp"

namespace gdcore {

struct Pair {
  double hi = 0.0, lo = 0.0;
};

GDCORE_HD inline Pair two_sum(double a, double b) {
  const double sum = a + b, z = sum - a;
  return {sum, (a - (sum - z)) + (b - z)};
}

// x + a * b, the rounding error of each operation in lo: the step of Dot2.
GDCORE_HD inline Pair add_product(Pair x, double a, double b) {
  const double product = a * b;
  const Pair sum = two_sum(x.hi, product);
  return {sum.hi, x.lo + (sum.lo + std::fma(a, b, -product))};
}

GDCORE_HD inline Pair add(Pair x, Pair y) {
  const Pair sum = two_sum(x.hi, y.hi);
  return {sum.hi, sum.lo + (x.lo + y.lo)};
}

// a + b where |a| is at least |b|.
inline Pair fast_two_sum(double a, double b) {
  const double sum = a + b;
  return {sum, b - (sum - a)};
}

// Results whose parts do not overlap, off by a few units of 2^-104 of the operands (Joldes, Muller,
// Popescu 2017, "Tight and rigorous error bounds for basic building blocks of double-word
// arithmetic").
inline Pair operator+(Pair x, Pair y) {
  const Pair sum = add(x, y);
  return fast_two_sum(sum.hi, sum.lo);
}
inline Pair operator-(Pair x, Pair y) { return x + Pair{-y.hi, -y.lo}; }
inline Pair operator*(Pair x, double y) {
  const double product = x.hi * y;
  return fast_two_sum(product, std::fma(x.hi, y, -product) + x.lo * y);
}
inline Pair operator*(Pair x, Pair y) {
  const double product = x.hi * y.hi;
  return fast_two_sum(product, std::fma(x.hi, y.hi, -product) + (x.hi * y.lo + x.lo * y.hi));
}
inline Pair operator/(Pair x, Pair y) {
  const double quotient = x.hi / y.hi;
  return fast_two_sum(quotient, (x - y * quotient).hi / y.hi);
}

inline double rounded(Pair x) { return x.hi + x.lo; }
inline double rounded(double x) { return x; }

}  // namespace gdcore
