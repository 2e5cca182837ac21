// Sums and products without error: a pair hi + lo of doubles that do not overlap.
// Dekker 1971; Ogita, Rump, Oishi 2005, "Accurate sum and dot product".
#pragma once

#include <cmath>

namespace gdcore {

struct Pair {
  double hi = 0.0, lo = 0.0;
};

inline Pair two_sum(double a, double b) {
  const double sum = a + b, z = sum - a;
  return {sum, (a - (sum - z)) + (b - z)};
}

// x + a * b, the rounding error of each operation in lo: the step of Dot2.
inline Pair add_product(Pair x, double a, double b) {
  const double product = a * b;
  const Pair sum = two_sum(x.hi, product);
  return {sum.hi, x.lo + (sum.lo + std::fma(a, b, -product))};
}

inline Pair add(Pair x, Pair y) {
  const Pair sum = two_sum(x.hi, y.hi);
  return {sum.hi, sum.lo + (x.lo + y.lo)};
}

// a + b of which |a| is at least |b|.
inline Pair fast_two_sum(double a, double b) {
  const double sum = a + b;
  return {sum, b - (sum - a)};
}

inline Pair multiply(Pair x, Pair y) {
  const double product = x.hi * y.hi;
  return fast_two_sum(product, std::fma(x.hi, y.hi, -product) + (x.hi * y.lo + x.lo * y.hi));
}

// x - y * z, its parts not overlapping.
inline Pair subtract_product(Pair x, Pair y, Pair z) {
  const Pair product = multiply(y, z), sum = two_sum(x.hi, -product.hi);
  return fast_two_sum(sum.hi, sum.lo + (x.lo - product.lo));
}

// x / y: a quotient, and that of its remainder.
inline Pair divide(Pair x, Pair y) {
  const double quotient = x.hi / y.hi;
  const Pair rest = subtract_product(x, {quotient, 0}, y);
  return fast_two_sum(quotient, rest.hi / y.hi);
}

}  // namespace gdcore
