// Epochs of small descents on quadratics that look at nothing but the gradient.
#pragma once

#include "lanes.hpp"
#include "ordinary_epoch.hpp"
#include "pairs.hpp"
#include "permute.hpp"
#include "small_fits.hpp"

namespace {

// Eight descents. Loops below have constant counters, so that the compiler keeps all of it in
// registers, as far as they last.
template <class T, int P>
struct QuietPoint {
  typedef typename EightNumbers<T>::Bits Bits;
  vec8<T> w[P], velocity[P], most[P];  // most: the sum over the epochs of w squared
  gdcore::StepRates<vec8<T>, Bits> rates;
  Bits decays;
  const double *G, *c, *factor;
  index_t decayed;
  bool has_momentum;
};

template <class T, int P>
inline __attribute__((always_inline)) void load_quiet(const gdcore::DescentLanes<T>& q,
                                                      QuietPoint<T, P>& x) {
  unroll<P>([&](auto a) {
    x.w[a.value] = load8(q.w + a.value * LANES);
    x.velocity[a.value] = load8(q.velocity + a.value * LANES);
    x.most[a.value] = vec8<T>{};
  });
  load_rates(q, x.rates);
  x.rates.first = typename QuietPoint<T, P>::Bits{};
  x.decays = decaying_lanes(q);
  x.G = q.G;
  x.c = q.c;
  x.factor = q.factor;
  x.decayed = q.decayed;
  x.has_momentum = q.has_momentum;
}

// The gradient of W<double> lanes, the first of which is `at`.
template <class T, int P>
inline __attribute__((always_inline)) void quiet_gradient(const QuietPoint<T, P>& x, int at,
                                                          vec8<T> (&gradient)[P]) {
  typedef typename SumOf<T, vec<double>>::type Sum;
  constexpr index_t low_G = P * P * LANES, low_c = P * LANES;
  vec<double> w[P];
  unroll<P>([&](auto b) { w[b.value] = wide_part<T>(x.w[b.value], at); });
  unroll<P>([&](auto a) {
    Sum sum = {}, g, c;
    unroll<P>([&](auto b) {
      read(g, x.G + (b.value * P + a.value) * LANES + at, low_G);
      sum = add_product(sum, g, w[b.value]);
    });
    read(c, x.c + a.value * LANES + at, low_c);
    insert<T>(gradient[a.value], at, load(x.factor + at) * value(subtract(sum, c)));
  });
}

// Plain: no momentum and no decay.
template <class T, int P, bool Plain>
inline __attribute__((always_inline)) void quiet_epoch(QuietPoint<T, P>& x) {
  vec8<T> gradient[P];
  if constexpr (W<double> == LANES)
    quiet_gradient(x, 0, gradient);
  else
    for (int at = 0; at < LANES; at += W<double>) quiet_gradient(x, at, gradient);
  unroll<P>([&](auto a) {
    vec8<T>& w = x.w[a.value];
    const vec8<T> g = gradient[a.value];
    if constexpr (Plain) {
      w = fma8<T>(x.rates.down, g, w);
    } else {
      x.rates.decays = a.value < x.decayed ? x.decays : typename QuietPoint<T, P>::Bits{};
      w = gdcore::sgd_step<EightNumbers<T>>(x.rates, w, g,
                                            x.has_momentum ? &x.velocity[a.value] : nullptr);
    }
    x.most[a.value] = fma8<T>(w, w, x.most[a.value]);
  });
}

// A bit for each lane that went too far; the state reached is written.
template <class T, int P>
inline __attribute__((always_inline)) unsigned store_quiet(const gdcore::DescentLanes<T>& q,
                                                           const QuietPoint<T, P>& x) {
  unsigned far = 0;
  unroll<P>([&](auto a) {
    far |= mask_of(~to_mask8(x.most[a.value] < static_cast<T>(gdcore::quiet_squares)));
    store8(q.w + a.value * LANES, x.w[a.value]);
    if (q.has_momentum) store8(q.velocity + a.value * LANES, x.velocity[a.value]);
  });
  return far & q.active;
}

template <class T, int P, bool Plain>
unsigned run_quiet(const gdcore::DescentLanes<T>& q, index_t epochs) {
  QuietPoint<T, P> x;
  load_quiet(q, x);
  for (index_t e = 0; e < epochs; ++e) quiet_epoch<T, P, Plain>(x);
  return store_quiet(q, x);
}

// Two eights in turns: the sums of one fill the pipes while those of the other wait.
template <class T, int P, bool Plain>
unsigned run_quiet_turns(const gdcore::DescentLanes<T>* q, index_t epochs) {
  QuietPoint<T, P> x, y;
  load_quiet(q[0], x);
  load_quiet(q[1], y);
  for (index_t e = 0; e < epochs; ++e) {
    quiet_epoch<T, P, Plain>(x);
    quiet_epoch<T, P, Plain>(y);
  }
  return store_quiet(q[0], x) | store_quiet(q[1], y);
}

template <class T, int P, bool Plain>
inline bool run_quiets(const gdcore::DescentLanes<T>* q, int count, index_t epochs) {
  if constexpr (P <= gdcore::most_params_in_turns && W<double> == LANES)
    if (count == 2) return run_quiet_turns<T, P, Plain>(q, epochs) == 0;
  unsigned far = 0;
  for (int k = 0; k < count; ++k) far |= run_quiet<T, P, Plain>(q[k], epochs);
  return far == 0;
}

template <class T, int P>
inline bool run_quiet(const gdcore::DescentLanes<T>* q, int count, index_t epochs) {
  bool plain = !q->has_momentum;
  for (int k = 0; k < count; ++k) plain &= !mask_of(load8(q[k].decay) != 0);
  return plain ? run_quiets<T, P, true>(q, count, epochs)
               : run_quiets<T, P, false>(q, count, epochs);
}

template <class T>
bool quiet_epochs(const gdcore::DescentLanes<T>* q, int count, index_t epochs) {
  switch (q->p) {
    case 1: return run_quiet<T, 1>(q, count, epochs);
    case 2: return run_quiet<T, 2>(q, count, epochs);
    case 3: return run_quiet<T, 3>(q, count, epochs);
    case 4: return run_quiet<T, 4>(q, count, epochs);
    case 5: return run_quiet<T, 5>(q, count, epochs);
    case 6: return run_quiet<T, 6>(q, count, epochs);
    case 7: return run_quiet<T, 7>(q, count, epochs);
    case 8: return run_quiet<T, 8>(q, count, epochs);
    default: return run_quiet<T, 9>(q, count, epochs);
  }
}

}  // namespace
