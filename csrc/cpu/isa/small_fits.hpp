// Descents on eight problems at a time, a problem in each lane.
#pragma once

#include "lanes.hpp"
#include "loss.hpp"
#include "ordinary_epoch.hpp"
#include "pairs.hpp"
#include "table.hpp"

namespace {

constexpr int CHAINS_OF_ROWS = 16;  // of up to 4 features: see chains_of

// The state of the descents, and what the epoch they are in measures there. P parameters, or any
// number if P is 0.
template <class T, int P>
struct LanePoint {
  static constexpr int most = P ? P : gdcore::most_lane_params;
  vec8<T> w[most], previous[most], gradient[most];
  vec8<T> loss, first_loss, last_loss;
  vec8<double> squares;  // of the gradient's norm
  mask8 moving, moved;
};

template <class T, int P>
inline index_t size_of(const gdcore::DescentLanes<T>& q) {
  return P ? P : q.p;
}

template <class T, int P>
inline void load_point(const gdcore::DescentLanes<T>& q, LanePoint<T, P>& x) {
  for (index_t a = 0; a < size_of<T, P>(q); ++a) {
    x.w[a] = load8(q.w + a * LANES);
    x.previous[a] = load8(q.previous + a * LANES);
  }
  x.first_loss = load8(q.first_loss);
  x.last_loss = load8(q.last_loss);
  x.moving = load8(q.moving);
  x.moved = load8(q.moved);
}

template <class T, int P>
inline void store_point(const gdcore::DescentLanes<T>& q, const LanePoint<T, P>& x) {
  for (index_t a = 0; a < size_of<T, P>(q); ++a) {
    store8(q.w + a * LANES, x.w[a]);
    store8(q.previous + a * LANES, x.previous[a]);
  }
  store8(q.first_loss, x.first_loss);
  store8(q.last_loss, x.last_loss);
  store8(q.moving, x.moving);
  store8(q.moved, x.moved);
}

// From half of the squared error's derivative by parameter a: the gradient's entry, and its part of
// the norm's square. W lanes from `at` on.
template <class T, int P>
inline void put_gradient(const gdcore::DescentLanes<T>& q, int at, index_t a, vec<double> half,
                         vec<double>& norm, LanePoint<T, P>& x) {
  insert<T>(x.gradient[a], at, load(q.factor + at) * half);
  vec<double> entry = wide_part<T>(x.gradient[a], at);
  if (a < q.decayed) entry += load(q.decay + at) * wide_part<T>(x.w[a], at);
  norm += entry * entry;
}

template <class T, int P>
inline void evaluate_quadratics(const gdcore::DescentLanes<T>& q, int at, LanePoint<T, P>& x) {
  typedef vec<double> D;
  typedef typename SumOf<T, D>::type Sum;
  const index_t p = size_of<T, P>(q), low_G = p * p * LANES, low_c = p * LANES;
  D w[LanePoint<T, P>::most], norm = {};
#pragma GCC unroll 8
  for (index_t b = 0; b < p; ++b) w[b] = wide_part<T>(x.w[b], at);
  Sum squares;
  read(squares, q.s + at, LANES);
#pragma GCC unroll 8
  for (index_t a = 0; a < p; ++a) {
    Sum sum = {}, g, c;
#pragma GCC unroll 8
    for (index_t b = 0; b < p; ++b) {
      read(g, q.G + (b * p + a) * LANES + at, low_G);
      sum = add_product(sum, g, w[b]);
    }
    read(c, q.c + a * LANES + at, low_c);
    g = subtract(sum, c);
    squares = add_product(squares, subtract(g, c), w[a]);
    put_gradient(q, at, a, value(g), norm, x);
  }
  D total = value(squares);
  total = total < D{} ? D{} : total;
  insert<T>(x.loss, at, total / load(q.divisor + at));
  insert<double>(x.squares, at, norm);
}

template <class T, int P>
inline void evaluate(const gdcore::DescentLanes<T>& q, LanePoint<T, P>& x) {
  for (int at = 0; at < LANES; at += W<double>) evaluate_quadratics(q, at, x);
}

// Sums over rows of D features, in the order of the contract: of r times each feature, of r, and of
// r squared, r the residual.
template <class T, int D, int P, bool HasOffset>
inline void sum_rows(const gdcore::LaneRows<T>& rows, const LanePoint<T, P>& x,
                     vec8<T> (&sums)[CHAINS_OF_ROWS][D + 2]) {
  typedef decltype(vec8<T>{} == vec8<T>{}) Bits;
  constexpr int terms = D > 2 ? 4 : D;  // lanes of the sum that makes a prediction
  const gdcore::SquaredError<vec8<T>> loss;
  const vec8<T> zero = {};
  const Bits n = from_mask8<Bits>(load8(rows.n));
  const index_t chains = rows.most < CHAINS_OF_ROWS ? rows.most : CHAINS_OF_ROWS;
  for (index_t chain = 0; chain < chains; ++chain) {
    vec8<T> sum[D + 2] = {};
    for (index_t i = chain; i < rows.most; i += CHAINS_OF_ROWS) {
      vec8<T> feature[D], term[terms] = {};
#pragma GCC unroll 4
      for (int j = 0; j < D; ++j) {
        feature[j] = load8(rows.X + (i * D + j) * LANES);
        term[j] = fma8<T>(feature[j], x.w[j], zero);
      }
#pragma GCC unroll 2
      for (int h = terms / 2; h > 0; h /= 2)
        for (int j = 0; j < h; ++j) term[j] += term[j + h];
      vec8<T> r = term[0];
      if (P > D) r += x.w[P - 1];
      if (HasOffset) r += load8(rows.offset + i * LANES);
      r -= load8(rows.y + i * LANES);
      if (i >= rows.fewest) r = Bits{} + static_cast<int>(i) < n ? r : zero;
      const vec8<T> slope = loss.slope(r);
#pragma GCC unroll 4
      for (int j = 0; j < D; ++j) sum[j] = fma8<T>(slope, feature[j], sum[j]);
      sum[D] += slope;
      sum[D + 1] = fma8<T>(slope, loss.ratio(r, slope), sum[D + 1]);
    }
    for (int j = 0; j < D + 2; ++j) sums[chain][j] = sum[j];
  }
  for (int h = CHAINS_OF_ROWS / 2; h > 0; h /= 2)
    for (int i = 0; i < h && i + h < chains; ++i)  // further chains have no rows
      for (int j = 0; j < D + 2; ++j) sums[i][j] += sums[i + h][j];
}

template <class T, int D, int P>
inline void evaluate_rows(const gdcore::DescentLanes<T>& q, LanePoint<T, P>& x) {
  vec8<T> sums[CHAINS_OF_ROWS][D + 2];
  if (q.rows.offset)
    sum_rows<T, D, P, true>(q.rows, x, sums);
  else
    sum_rows<T, D, P, false>(q.rows, x, sums);
  for (int at = 0; at < LANES; at += W<double>) {
    vec<double> norm = {};
    for (int a = 0; a < P; ++a)  // a segment is added to +0, which -0 is not
      put_gradient(q, at, a, vec<double>{} + wide_part<T>(sums[0][a], at), norm, x);
    insert<T>(x.loss, at, wide_part<T>(sums[0][D + 1], at) / load(q.divisor + at));
    insert<double>(x.squares, at, norm);
  }
}

// The operations of eight numbers at a time, see OneNumber.
template <class T>
struct EightNumbers {
  typedef vec8<T> Number;
  typedef vec8<double> Double;
  typedef mask8 Answer;
  typedef decltype(Number{} == Number{}) Bits;

  static inline Number fma(Number a, Number b, Number c) { return fma8<T>(a, b, c); }
  static inline mask8 answer(Bits yes) { return to_mask8(yes); }
  static inline mask8 no(mask8 yes) { return ~yes; }
  template <class Value>
  static inline Number pick(Bits yes, const Value& value, Number other) {
    return yes ? value() : other;
  }
};

// A bit for each lane whose epoch may be its last.
template <class T, int P>
inline unsigned ending_lanes(const gdcore::DescentLanes<T>& q, const LanePoint<T, P>& x) {
  const gdcore::EndRules<EightNumbers<T>> rules{load8(q.norm_bound), q.stop_on_equal_loss};
  return mask_of(gdcore::may_end(rules, x.loss, x.last_loss, x.squares, x.moved)) & q.active;
}

template <class T, class Rates>
inline void load_rates(const gdcore::DescentLanes<T>& q, Rates& rates) {
  for (int at = 0; at < LANES; at += W<double>) {
    insert<T>(rates.decay, at, load(q.decay + at));
    insert<T>(rates.down, at, -load(q.lr + at));
    insert<T>(rates.momentum, at, load(q.momentum + at));
  }
  rates.damped = vec8<T>{} + q.damped;
  rates.nesterov = q.nesterov;
}

template <class T>
inline typename EightNumbers<T>::Bits decaying_lanes(const gdcore::DescentLanes<T>& q) {
  return from_mask8<typename EightNumbers<T>::Bits>(load8(q.decay) != 0);
}

template <class T, int P>
inline void step_lanes(const gdcore::DescentLanes<T>& q, LanePoint<T, P>& x) {
  typedef typename EightNumbers<T>::Bits Bits;
  gdcore::StepRates<vec8<T>, Bits> rates;
  load_rates(q, rates);
  rates.first = from_mask8<Bits>(~x.moving);
  const Bits decays = decaying_lanes(q);
  Bits changed = {};
  for (index_t a = 0; a < size_of<T, P>(q); ++a) {
    const vec8<T> w = x.w[a];
    vec8<T> velocity = {};
    rates.decays = a < q.decayed ? decays : Bits{};
    if (q.has_momentum) {
      const vec8<T> before = velocity = load8(q.velocity + a * LANES);
      x.w[a] = gdcore::sgd_step<EightNumbers<T>>(rates, w, x.gradient[a], &velocity);
      store8(q.velocity + a * LANES, velocity);
      changed |= (Bits)velocity ^ (Bits)before;
    } else {
      x.w[a] = gdcore::sgd_step<EightNumbers<T>>(rates, w, x.gradient[a], (vec8<T>*)nullptr);
    }
    x.previous[a] = w;
    changed |= (Bits)x.w[a] ^ (Bits)w;
  }
  x.moved = to_mask8(changed != 0);
  if (q.has_momentum) {
    x.moved |= ~x.moving;
    x.moving = ~mask8{};
  }
  x.first_loss = x.first_loss != x.first_loss ? x.loss : x.first_loss;
  x.last_loss = x.loss;
}

template <class T, int P>
inline void store_params(const gdcore::DescentLanes<T>& q, index_t epoch,
                         const LanePoint<T, P>& x) {
  const index_t p = size_of<T, P>(q);
  for (index_t a = 0; a < p; ++a) store8(q.params + (epoch * p + a) * LANES, x.w[a]);
}

// D: features of the rows, or 0 on quadratics.
template <class T, int P, int D>
int64_t run_lanes(const gdcore::DescentLanes<T>& given, int64_t epochs, unsigned* ending) {
  const gdcore::DescentLanes<T> q = given;
  LanePoint<T, P> x;
  load_point(q, x);
  int64_t epoch = 0;
  while (true) {
    if constexpr (D > 0)
      evaluate_rows<T, D>(q, x);
    else
      evaluate(q, x);
    *ending = ending_lanes(q, x);
    store8(q.losses + epoch * LANES, x.loss);
    if (*ending || epoch == epochs) break;
    step_lanes(q, x);
    if (q.params) store_params(q, epoch, x);
    ++epoch;
  }
  store_point(q, x);
  return epoch;
}

template <class T, int D>
int64_t run_on_rows(const gdcore::DescentLanes<T>& q, int64_t epochs, unsigned* ending) {
  return q.p > D ? run_lanes<T, D + 1, D>(q, epochs, ending)
                 : run_lanes<T, D, D>(q, epochs, ending);
}

template <class T>
int64_t descend_lanes(const gdcore::DescentLanes<T>& q, int64_t epochs, unsigned* ending) {
  if (q.on_rows) {
    switch (q.rows.d) {
      case 1: return run_on_rows<T, 1>(q, epochs, ending);
      case 2: return run_on_rows<T, 2>(q, epochs, ending);
      case 3: return run_on_rows<T, 3>(q, epochs, ending);
      default: return run_on_rows<T, 4>(q, epochs, ending);
    }
  }
  switch (q.p) {
    case 1: return run_lanes<T, 1, 0>(q, epochs, ending);
    case 2: return run_lanes<T, 2, 0>(q, epochs, ending);
    case 3: return run_lanes<T, 3, 0>(q, epochs, ending);
    case 4: return run_lanes<T, 4, 0>(q, epochs, ending);
    case 5: return run_lanes<T, 5, 0>(q, epochs, ending);
    case 6: return run_lanes<T, 6, 0>(q, epochs, ending);
    default: return run_lanes<T, 0, 0>(q, epochs, ending);
  }
}

}  // namespace
