// Descents on quadratics, all epochs of each without the host: a thread a problem, from registers,
// where the parameters are few, else a block a problem, from shared memory.
#pragma once

#include <type_traits>

#include "cuda/kernels/block_descents.hpp"
#include "double_double.hpp"

namespace gdcore::cuda {

// A sum of the quadratic: a double for float32 parameters, a pair for float64 ones.
template <class T>
using Sum = std::conditional_t<sizeof(T) == 4, double, Pair>;

GDCORE_DEVICE double add_times(double x, double a, double b) { return fma(a, b, x); }
GDCORE_DEVICE Pair add_times(Pair x, Pair a, double b) {
  Pair sum = add_product(x, a.hi, b);
  sum.lo = fma(a.lo, b, sum.lo);
  return sum;
}
GDCORE_DEVICE double minus(double x, double y) { return x - y; }
GDCORE_DEVICE Pair minus(Pair x, Pair y) { return add(x, {-y.hi, -y.lo}); }
GDCORE_DEVICE double both_parts(double x) { return x + 0.0; }
GDCORE_DEVICE double both_parts(Pair x) { return x.hi + x.lo; }

GDCORE_DEVICE constexpr int triangle(int p) { return p * (p + 1) / 2; }
// The place of entry (a, b), a <= b, in the upper triangle by rows.
GDCORE_DEVICE constexpr int in_triangle(int p, int a, int b) {
  return a * p - a * (a - 1) / 2 + b - a;
}

// Sum `e` of a packed quadratic of p parameters.
template <class T>
GDCORE_DEVICE Sum<T> packed_sum(const double* sums, int64_t stride, int p, int e) {
  if constexpr (sizeof(T) == 4)
    return sums[e * stride];
  else
    return Pair{sums[e * stride], sums[(triangle(p) + p + 1 + e) * stride]};
}

template <class T>
GDCORE_DEVICE double closed_squares(Sum<T> squares) {
  const double total = 0.0 + both_parts(squares);
  return total < 0 ? 0.0 : total;  // by rounding
}

// s - 2 c.w + w.G w and half its gradient.
template <class T, int P>
class RegisterQuadratic {
 public:
  GDCORE_DEVICE RegisterQuadratic(const double* sums, int64_t stride) {
    const auto at = [&](int e) { return packed_sum<T>(sums, stride, P, e); };
    GDCORE_UNROLL
    for (int e = 0; e < entries; ++e) G_[e] = at(e);
    GDCORE_UNROLL
    for (int a = 0; a < P; ++a) c_[a] = at(entries + a);
    s_ = at(entries + P);
  }

  // put(a, entry a of half the gradient); returns the squares.
  template <class Put>
  GDCORE_DEVICE double measure(const T* w, Put&& put) const {
    Sum<T> squares = s_;
    GDCORE_UNROLL
    for (int a = 0; a < P; ++a) {
      Sum<T> sum{};
      GDCORE_UNROLL
      for (int b = 0; b < P; ++b)
        sum = add_times(sum, G_[a < b ? in_triangle(P, a, b) : in_triangle(P, b, a)],
                        static_cast<double>(w[b]));
      const Sum<T> half = minus(sum, c_[a]);
      put(a, both_parts(half));
      squares = add_times(squares, minus(half, c_[a]), static_cast<double>(w[a]));
    }
    return closed_squares<T>(squares);
  }

 private:
  static constexpr int entries = triangle(P);

  Sum<T> G_[entries], c_[P], s_;
};

template <class T, int P>
GDCORE_DEVICE void descend_quadratics(const QuadraticDescents<T>& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.columns.count) return;
  const RegisterQuadratic<T, P> quadratic(p.sums + i, p.columns.count);
  OneDescent<T> descent(p.columns, i);
  T w[P], v[P], before[P], g[P];
  GDCORE_UNROLL
  for (int j = 0; j < P; ++j) {
    before[j] = w[j] = descent.param(j);
    v[j] = descent.velocity(j);
  }
  while (descent.measures()) {
    double norm_squares = 0;
    const double squares = quadratic.measure(w, [&](int j, double half) {
      g[j] = descent.gradient(half);
      const double entry = descent.entry(j, g[j], w[j]);
      norm_squares = norm_squares + entry * entry;
    });
    if (descent.stops(squares, norm_squares)) break;
    bool changed = false;
    GDCORE_UNROLL
    for (int j = 0; j < P; ++j) {
      before[j] = w[j];
      changed = descent.step(j, g[j], w[j], v[j]) || changed;
    }
    descent.end_epoch(changed);
    if (!descent.records()) continue;
    descent.record_loss();
    GDCORE_UNROLL
    for (int j = 0; j < P; ++j) descent.record_param(j, P, w[j]);
    descent.end_record();
  }
  GDCORE_UNROLL
  for (int j = 0; j < P; ++j) descent.keep_param(j, w[j], v[j], before[j]);
  descent.keep();
}

// Of p.parameters <= blockDim.x.
template <class T>
GDCORE_DEVICE void descend_wide_quadratics(const QuadraticDescents<T>& q) {
  const int a = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int p = q.parameters;
  const double* const sums = q.sums + blockIdx.x;
  const auto at = [&](int e) { return packed_sum<T>(sums, q.columns.count, p, e); };
  unsigned char* const memory = shared_memory(quadratic_descent_bytes<T>(p));
  auto* const G = reinterpret_cast<Sum<T>*>(memory + vectors_bytes<T>(p));  // (p, p)
  Sum<T>*const c = G + p * p, *const part = c + p;
  for (int e = a; e < p * p; e += threads) {
    const int row = e / p, column = e % p;
    G[e] = at(row < column ? in_triangle(p, row, column) : in_triangle(p, column, row));
  }
  if (a < p) c[a] = at(triangle(p) + a);
  const Sum<T> s = at(triangle(p) + p);
  descend_by_block(q.columns, p, descent_vectors<T>(memory, p), [&](const DescentVectors<T>& v) {
    __syncthreads();
    if (a < p) {
      Sum<T> sum{};
      for (int b = 0; b < p; ++b) sum = add_times(sum, G[b * p + a], static_cast<double>(v.w[b]));
      const Sum<T> half = minus(sum, c[a]);
      v.sums[a] = both_parts(half);
      part[a] = minus(half, c[a]);
    }
    __syncthreads();
    Sum<T> squares = s;
    for (int b = 0; b < p; ++b) squares = add_times(squares, part[b], static_cast<double>(v.w[b]));
    return closed_squares<T>(squares);
  });
}

}  // namespace gdcore::cuda
