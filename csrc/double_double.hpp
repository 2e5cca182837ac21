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

// Arithmetic that renormalises: each result is off by a few units of 2^-104 (Joldes, Muller,
// Popescu 2017, "Tight and rigorous error bounds for basic building blocks of double-word
// arithmetic").
inline Pair normalized(double hi, double lo) {
  const double sum = hi + lo;
  return {sum, lo - (sum - hi)};
}
inline Pair operator+(Pair x, Pair y) {
  const Pair hi = two_sum(x.hi, y.hi), lo = two_sum(x.lo, y.lo);
  const Pair sum = normalized(hi.hi, hi.lo + lo.hi);
  return normalized(sum.hi, sum.lo + lo.lo);
}
inline Pair operator-(Pair x) { return {-x.hi, -x.lo}; }
inline Pair operator-(Pair x, Pair y) { return x + -y; }
inline Pair operator*(Pair x, double y) {
  const double product = x.hi * y;
  return normalized(product, std::fma(x.hi, y, -product) + x.lo * y);
}
inline Pair operator*(Pair x, Pair y) {
  const double product = x.hi * y.hi;
  const double rest = std::fma(x.hi, y.lo, x.lo * y.hi);
  return normalized(product, std::fma(x.hi, y.hi, -product) + rest);
}
inline Pair operator/(Pair x, Pair y) {
  const double first = x.hi / y.hi;
  const Pair rest = x - y * first;
  const double second = rest.hi / y.hi;
  return normalized(first, second + (rest - y * second).hi / y.hi);
}
inline double rounded(Pair x) { return x.hi + x.lo; }
inline double rounded(double x) { return x; }

}  // namespace gdcore
