// The losses: each is a struct that the reference, the SIMD kernels and device code share.
// Freestanding: no standard library.
//
// V is a number or a vector of numbers, r a residual, g = slope(r), and value(r) = g * ratio(r, g).
// A sum over rows adds fma(s g, ratio(r, g)) to the loss and s g times each feature to the
// gradient, where s is the sample weight and s g is rounded once. `scale` times the slope is the
// derivative of the value; `scale` times the curvature is the second derivative.
#pragma once

#include "hd.hpp"

// Always inlined: code of a kernel must not be merged with that of another instruction set.
#define GDCORE_LOSS GDCORE_HD __attribute__((always_inline)) inline

namespace gdcore {

// r^2
template <class V>
struct SquaredError {
  static constexpr const char* name = "squared";
  static constexpr double scale = 2;

  SquaredError() = default;
  GDCORE_LOSS constexpr explicit SquaredError(V /*delta*/) {}

  GDCORE_LOSS constexpr V slope(V r) const { return r; }
  GDCORE_LOSS constexpr V ratio(V r, V /*g*/) const { return r; }
  GDCORE_LOSS constexpr V value(V r) const { return r * r; }
  GDCORE_LOSS constexpr V curvature(V /*r*/) const { return V{} + 1; }
};

// r^2 / 2 for |r| <= delta, delta (|r| - delta / 2) beyond (Huber 1964). NaN stays NaN.
template <class V>
struct Huber {
  static constexpr const char* name = "huber";
  static constexpr double scale = 1;

  V delta;

  GDCORE_LOSS constexpr explicit Huber(V limit) : delta(limit) {}

  GDCORE_LOSS constexpr V slope(V r) const {
    const V low = -delta, most = r > delta ? delta : r;
    return most < low ? low : most;
  }
  GDCORE_LOSS constexpr V ratio(V r, V g) const { return r - g / 2; }
  GDCORE_LOSS constexpr V value(V r) const { return slope(r) * ratio(r, slope(r)); }
  GDCORE_LOSS constexpr V curvature(V r) const { return slope(r) == r ? V{} + 1 : V{}; }
};
static_assert(Huber<double>(2).value(-1) == 0.5 && Huber<double>(2).value(-3) == 4);
static_assert(Huber<double>(2).slope(-1) == -1 && Huber<double>(2).slope(-3) == -2);
static_assert(Huber<double>(2).curvature(-1) == 1 && Huber<double>(2).curvature(-3) == 0);

// A loss chosen at run time: its place in `Losses`, and its parameter in full precision.
struct LossChoice {
  int place = 0;
  double delta = 0;
};

template <template <class> class... Each>
struct LossList {
  static constexpr int count = sizeof...(Each);
  static constexpr const char* names[] = {Each<double>::name...};
  static constexpr double scales[] = {Each<double>::scale...};

  // f(loss) with the struct that was chosen; delta is its parameter as a V.
  template <class V, class F>
  static GDCORE_LOSS void visit(const LossChoice& choice, V delta, F&& f) {
    int place = 0;
    ((place++ == choice.place ? f(Each<V>(delta)) : void()), ...);
  }
};
using Losses = LossList<SquaredError, Huber>;

}  // namespace gdcore
