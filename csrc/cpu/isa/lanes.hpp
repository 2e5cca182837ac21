// Descents on several quadratics at a time, a problem in each lane.
#pragma once

#include "moments.hpp"
#include "quadratic.hpp"
#include "simd.hpp"
#include "table.hpp"

namespace {

constexpr int LANES = gdcore::QuadraticLanes<float>::lanes;

// Loops over lanes are written for one lane: their count is a constant, and the compiler turns each
// of them into a few vector instructions.
template <class F>
inline __attribute__((always_inline)) void each_lane(F&& f) {
#pragma GCC unroll 1
  for (int l = 0; l < LANES; ++l) f(l);
}

inline bool is_finite(double x) { return x - x == 0; }

template <class T>
struct BitsOf;
template <>
struct BitsOf<float> {
  typedef uint32_t type;
};
template <>
struct BitsOf<double> {
  typedef uint64_t type;
};
template <class T>
inline typename BitsOf<T>::type bits(T x) {
  typename BitsOf<T>::type u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}

// What one epoch knows before its step.
template <class T>
struct LaneEpoch {
  alignas(64) T gradient[gdcore::most_lane_params][LANES];
  alignas(64) T loss[LANES];
  alignas(64) double norm[LANES];
};

// Sums, loss, gradient and its norm, W lanes from `at` on.
template <class T>
inline void evaluate_lanes(const gdcore::QuadraticLanes<T>& q, int at, LaneEpoch<T>& out) {
  typedef vec<double> D;
  typedef typename SumOf<T, D>::type Sum;
  const index_t p = q.p, low_G = p * p * LANES, low_c = p * LANES;
  D w[gdcore::most_lane_params];
  for (index_t b = 0; b < p; ++b) w[b] = load_wide(q.w + b * LANES + at);
  Sum squares;
  read(squares, q.s + at, LANES);
  const D factor = load(q.factor + at), decay = load(q.decay + at);
  D norm = {};
  for (index_t a = 0; a < p; ++a) {
    Sum sum = {}, g, c;
    for (index_t b = 0; b < p; ++b) {
      read(g, q.G + (b * p + a) * LANES + at, low_G);
      sum = add_product(sum, g, w[b]);
    }
    read(c, q.c + a * LANES + at, low_c);
    g = subtract(sum, c);
    squares = add_product(squares, subtract(g, c), w[a]);
    store_narrow(&out.gradient[a][at], factor * value(g));
    const D entry = load_wide(&out.gradient[a][at]) + decay * w[a];
    norm += entry * entry;
  }
  D total = value(squares);
  total = total < D{} ? D{} : total;
  store_narrow(&out.loss[at], total / load(q.divisor + at));
  store(&out.norm[at], norm);
}

// Lanes that an ordinary epoch may not serve: an end, or a number out of the ordinary.
template <class T>
inline unsigned ending_lanes(const gdcore::QuadraticLanes<T>& q, LaneEpoch<T>& e) {
  int ends[LANES];
  each_lane([&](int l) {
    const double squares = e.norm[l], loss = e.loss[l];
    const bool usual = is_finite(loss) && is_finite(squares) && squares > 1e-200;
    e.norm[l] = __builtin_sqrt(usual ? squares : 1.0);
    const double first = q.first_norm[l] < 0 ? e.norm[l] : q.first_norm[l];
    const bool small = q.tol[l] >= 0 && e.norm[l] <= q.tol[l] * first;
    const bool stuck = q.tol[l] >= 0 && !q.moved[l];
    const bool equal = q.stop_on_equal_loss && e.loss[l] == q.last_loss[l];
    ends[l] = !usual || small || stuck || equal;
  });
  unsigned mask = 0;
  for (int l = 0; l < LANES; ++l) mask |= static_cast<unsigned>(ends[l]) << l;
  return mask & q.active;
}

template <class T>
inline void step_lanes(const gdcore::QuadraticLanes<T>& q, const LaneEpoch<T>& e) {
  typedef typename BitsOf<T>::type Bits;
  Bits changed[LANES] = {};
  for (index_t a = 0; a < q.p; ++a) {
    T *const w = q.w + a * LANES, *const v = q.velocity + a * LANES,
             *const previous = q.previous + a * LANES;
    each_lane([&](int l) {
      T g = e.gradient[a][l];
      const T decay = static_cast<T>(q.decay[l]);
      g = q.decay[l] != 0 ? fma(decay, w[l], g) : g;
      if (q.has_momentum) {
        const T next = q.moving[l] ? fma(q.damped, g, q.momentum * v[l]) : g;
        changed[l] |= (q.moving[l] ? bits(next) ^ bits(v[l]) : Bits(1));
        v[l] = next;
        g = q.nesterov ? fma(q.momentum, next, g) : next;
      }
      const T after = fma(static_cast<T>(-q.lr[l]), g, w[l]);
      changed[l] |= bits(after) ^ bits(w[l]);
      previous[l] = w[l];
      w[l] = after;
    });
  }
  each_lane([&](int l) {
    const bool first = q.first_norm[l] < 0;
    q.first_norm[l] = first ? e.norm[l] : q.first_norm[l];
    q.first_loss[l] = first ? e.loss[l] : q.first_loss[l];
    q.last_loss[l] = e.loss[l];
    q.moved[l] = changed[l] != 0;
    q.moving[l] = q.has_momentum;
  });
}

template <class T>
int64_t quadratic_lanes(const gdcore::QuadraticLanes<T>& given, int64_t epochs, unsigned* ending) {
  const gdcore::QuadraticLanes<T> q = given;
  LaneEpoch<T> e;
  *ending = 0;
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    for (int at = 0; at < LANES; at += W<double>) evaluate_lanes(q, at, e);
    *ending = ending_lanes(q, e);
    if (*ending) return epoch;
    step_lanes(q, e);
    if (q.losses) each_lane([&](int l) { q.losses[epoch * LANES + l] = e.loss[l]; });
  }
  return epochs;
}

}  // namespace
