// Descents on several quadratics at a time, a problem in each lane.
#pragma once

#include "moments.hpp"
#include "quadratic.hpp"
#include "simd.hpp"
#include "table.hpp"

namespace {

constexpr int LANES = gdcore::QuadraticLanes<float>::lanes;

// A number in each lane, as a vector of whatever registers it takes; and what each is, yes or no.
template <class T>
struct EightOf {
  typedef T type __attribute__((vector_size(LANES * sizeof(T))));
  typedef T loose __attribute__((vector_size(LANES * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <class T>
using eight = typename EightOf<T>::type;
typedef eight<int64_t> Answers;

template <class T>
inline eight<T> all_lanes(const T* p) {
  return *reinterpret_cast<const typename EightOf<T>::loose*>(p);
}
template <class T>
inline void put_lanes(T* p, eight<T> v) {
  *reinterpret_cast<typename EightOf<T>::loose*>(p) = v;
}

template <class T>
inline eight<T> fma_lanes(eight<T> a, eight<T> b, eight<T> c) {
  eight<T> r = {};
#if GDCORE_VECTOR_BYTES >= 32
  if constexpr (sizeof(T) == 4) return (eight<T>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
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

inline eight<double> sqrt_lanes(eight<double> x) {
  eight<double> r = {};
  for (int l = 0; l < LANES; ++l) r[l] = __builtin_sqrt(x[l]);
  return r;
}

inline unsigned mask_of(Answers yes) {
#if GDCORE_VECTOR_BYTES == 64
  return _mm512_movepi64_mask((__m512i)yes);
#else
  unsigned mask = 0;
  for (int l = 0; l < LANES; ++l) mask |= static_cast<unsigned>(yes[l] & 1) << l;
  return mask;
#endif
}

template <class T>
inline Answers changed(eight<T> a, eight<T> b) {
  typedef decltype(a == b) Bits;
  return __builtin_convertvector((Bits)a != (Bits)b, Answers);
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
  const eight<double> squares = all_lanes(e.norm), tol = all_lanes(q.tol);
  const eight<T> loss = all_lanes(e.loss);
  const Answers usual = __builtin_convertvector(loss - loss == 0, Answers) &
                        (squares - squares == 0) & (squares > 1e-200);
  const eight<double> norm = sqrt_lanes(usual ? squares : squares * 0 + 1);
  const eight<double> known = all_lanes(q.first_norm), first = known < 0 ? norm : known;
  const Answers small = norm <= tol * first, still = ~all_lanes(q.moved);
  Answers ends = ~usual | ((tol >= 0) & (small | still));
  if (q.stop_on_equal_loss)
    ends |= __builtin_convertvector(loss == all_lanes(q.last_loss), Answers);
  put_lanes(e.norm, norm);
  return mask_of(ends) & q.active;
}

template <class T>
inline void step_lanes(const gdcore::QuadraticLanes<T>& q, const LaneEpoch<T>& e) {
  typedef decltype(eight<T>{} == eight<T>{}) Choice;
  const eight<T> decay = __builtin_convertvector(all_lanes(q.decay), eight<T>),
                 down = -__builtin_convertvector(all_lanes(q.lr), eight<T>);
  const Choice moving = __builtin_convertvector(all_lanes(q.moving), Choice);
  const Choice decays = __builtin_convertvector(all_lanes(q.decay) != 0, Choice);
  Answers moved = {};
  for (index_t a = 0; a < q.p; ++a) {
    const eight<T> w = all_lanes(q.w + a * LANES);
    eight<T> g = all_lanes(e.gradient[a]);
    g = decays ? fma_lanes<T>(decay, w, g) : g;
    if (q.has_momentum) {
      const eight<T> v = all_lanes(q.velocity + a * LANES);
      const eight<T> zero = {}, momentum = zero + q.momentum, damped = zero + q.damped;
      const eight<T> next = moving ? fma_lanes<T>(damped, g, momentum * v) : g;
      moved |= changed<T>(next, v);
      put_lanes(q.velocity + a * LANES, next);
      g = q.nesterov ? fma_lanes<T>(momentum, next, g) : next;
    }
    const eight<T> after = fma_lanes<T>(down, g, w);
    moved |= changed<T>(after, w);
    put_lanes(q.previous + a * LANES, w);
    put_lanes(q.w + a * LANES, after);
  }
  if (q.has_momentum) moved |= ~all_lanes(q.moving);
  const eight<double> known = all_lanes(q.first_norm);
  const Answers first = known < 0;
  const eight<T> loss = all_lanes(e.loss);
  put_lanes(q.first_norm, first ? all_lanes(e.norm) : known);
  put_lanes(q.first_loss, __builtin_convertvector(first, Choice) ? loss : all_lanes(q.first_loss));
  put_lanes(q.last_loss, loss);
  put_lanes(q.moved, moved);
  if (q.has_momentum) put_lanes(q.moving, ~Answers{});
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
    if (q.losses) put_lanes(q.losses + epoch * LANES, all_lanes(e.loss));
  }
  return epochs;
}

}  // namespace
