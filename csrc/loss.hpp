// The losses, each as a struct that the reference, the SIMD kernels and device code share. V is a
// number or a vector of numbers. Freestanding: no standard library.
//
// With the residual r, a sample weight s and g = slope(r), a sum over rows adds fma(s g, arm(r, g))
// to the loss and s g times each feature to the gradient; s g is rounded once. `derivative` times
// the slope is the derivative of the value, and times the curvature the second derivative.
#pragma once

#include "hd.hpp"

namespace gdcore {

// value r^2
template <class V>
struct SquaredError {
  static constexpr const char* name = "squared";
  static constexpr double derivative = 2;

  GDCORE_HD explicit SquaredError(V /*delta*/) {}
  GDCORE_HD V slope(V r) const { return r; }
  GDCORE_HD V arm(V r, V /*g*/) const { return r; }
  GDCORE_HD V value(V r) const { return r * r; }
  GDCORE_HD V curvature(V r) const { return r - r + 1; }
};

// value r^2 / 2 for |r| <= delta, delta (|r| - delta / 2) beyond (Huber 1964). NaN stays NaN.
template <class V>
struct Huber {
  static constexpr const char* name = "huber";
  static constexpr double derivative = 1;

  V delta;

  GDCORE_HD explicit Huber(V limit) : delta(limit) {}
  GDCORE_HD V slope(V r) const {
    const V low = -delta, below = r > delta ? delta : r;
    return below < low ? low : below;
  }
  GDCORE_HD V arm(V r, V g) const { return r - g / 2; }
  GDCORE_HD V value(V r) const {
    const V g = slope(r);
    return g * arm(r, g);
  }
  GDCORE_HD V curvature(V r) const {
    const V g = slope(r), zero = r - r;
    return g == r ? zero + 1 : zero;
  }
};

// The losses by number, in the order of this list.
template <template <class> class... Each>
struct LossList {
  static constexpr int count = sizeof...(Each);
  static constexpr const char* names[] = {Each<double>::name...};
  static constexpr double derivatives[] = {Each<double>::derivative...};

  // f(loss) with the struct of that number.
  template <class V, class F>
  static GDCORE_HD void visit(int number, V delta, F&& f) {
    int i = 0;
    ((i++ == number ? f(Each<V>(delta)) : void()), ...);
  }
};
using Losses = LossList<SquaredError, Huber>;

struct LossChoice {
  int number = 0;  // of Losses
  double delta = 0;
};

}  // namespace gdcore
