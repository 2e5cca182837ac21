// The largest eigenvalues of eight matrices at a time: what csrc/lanczos.cpp does, in each lane.
#pragma once

#include "cpu/lane_layout.hpp"
#include "pairs.hpp"
#include "to_double.hpp"
#include "vector.hpp"

namespace {

typedef vec<double> Numbers;  // one of each matrix, of as many as a vector has lanes
typedef vec<int64_t> Answers;

inline Numbers absolute(Numbers x) { return (Numbers)((Answers)x & INT64_MAX); }

// In each lane a symmetric tridiagonal matrix: n diagonal numbers and, beside them, n - 1.
struct TridiagonalLanes {
  index_t n = 0;
  Numbers diagonal[gdcore::most_lane_params], off[gdcore::most_lane_params];
};

inline Numbers bound_of(const TridiagonalLanes& A) {
  Numbers bound = {};
  for (index_t i = 0; i < A.n; ++i) {
    Numbers row = absolute(A.diagonal[i]);
    if (i > 0) row += A.off[i - 1];
    if (i + 1 < A.n) row += A.off[i];
    bound = bound < row ? row : bound;
  }
  return bound;
}

inline Numbers estimated_eigenvalue(const TridiagonalLanes& A) {
  constexpr int most = 30;
  if (A.n == 1) return A.diagonal[0];
  const Numbers zero = {};
  Numbers x = bound_of(A);
  Answers going = ~Answers{};
  for (int step = 0; step < most && any(going); ++step) {
    Numbers pivot = A.diagonal[0] - x, slope = zero - 1, sum = slope / pivot;
    for (index_t i = 1; i < A.n; ++i) {
      const Numbers ratio = A.off[i - 1] / pivot;
      pivot = A.diagonal[i] - x - A.off[i - 1] * ratio;
      slope = ratio * ratio * slope - 1;
      sum += slope / pivot;
    }
    const Numbers next = x - 1 / sum;
    going &= (next > 0) & (next < x);
    const Answers close = x - next <= x * 0x1p-50;
    x = going ? next : x;
    going &= ~close;
  }
  return x;
}

inline Answers is_below(const TridiagonalLanes& A, Numbers x) {
  Answers below = ~Answers{};
  Numbers pivot = {};
  for (index_t i = 0; i < A.n; ++i) {
    const Numbers from = A.diagonal[i] - x;
    pivot = i == 0 ? from : from - A.off[i - 1] * A.off[i - 1] / pivot;
    pivot = pivot == 0 ? Numbers{} - 1e-300 : pivot;
    below &= pivot < 0;
  }
  return below;
}

inline Numbers largest_eigenvalue(const TridiagonalLanes& A, Numbers estimate, Answers wanted) {
  Numbers low = {}, high = bound_of(A);
  const auto bracket = [&](Numbers x, Answers lanes) {
    lanes &= (x > low) & (x < high);
    if (!any(lanes)) return;
    const Answers below = is_below(A, x);
    high = lanes & below ? x : high;
    low = lanes & ~below ? x : low;
  };
  Answers going = wanted;
  for (double off = 0x1p-51; off < 1 && any(going); off *= 64) {
    bracket(estimate * (1 - off), going);
    bracket(estimate * (1 + off), going);
    going &= ~((low > 0) & (high <= estimate * (1 + off)));
  }
  going = wanted;
  for (int i = 0; i < 200; ++i) {
    const Numbers middle = low + (high - low) / 2;
    going &= (low < high) & ~((middle <= low) | (middle >= high));
    if (!any(going)) break;
    bracket(middle, going);
  }
  return high;
}

inline Numbers last_component(const TridiagonalLanes& A, Numbers value) {
  const Numbers zero = {};
  Numbers before = zero, now = zero + 1, norm = zero + 1;
  Answers none = {};
  for (index_t i = 0; i + 1 < A.n; ++i) {
    none |= A.off[i] == 0;
    Numbers next = (value - A.diagonal[i]) * now;
    next = (i > 0 ? next - A.off[i - 1] * before : next - zero * before) / A.off[i];
    before = now;
    now = next;
    norm += now * now;
    const Answers large = norm > 1e100;
    if (!any(large)) continue;
    before = large ? before * 1e-50 : before;
    now = large ? now * 1e-50 : now;
    norm = large ? norm * 1e-100 : norm;
  }
  return none ? zero : absolute(now) / sqrt(norm);
}

inline Numbers dot(index_t n, const Numbers* a, const Numbers* b) {
  Numbers sum = {};
  for (index_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// image = G direction, the direction rounded to T.
template <class T>
inline void product(const gdcore::HessianLanes& q, int at, const Numbers* direction,
                    Numbers* image) {
  typedef typename SumOf<T, Numbers>::type Sum;
  const index_t p = q.p, low = p * (p + 1) / 2 * gdcore::lanes;
  Numbers w[gdcore::most_lane_params];
  for (index_t b = 0; b < p; ++b) w[b] = to_double<T>(from_double<T>(direction[b]));
  for (index_t a = 0; a < p; ++a) {
    Sum sum = {}, g;
    const double* entry = q.G + a * gdcore::lanes + at;  // (b, a), or (a, b) where b > a
    for (index_t b = 0; b < p; ++b) {
      read(g, entry, low);
      sum = add_product(sum, g, w[b]);
      entry += (b < a ? p - 1 - b : 1) * gdcore::lanes;
    }
    image[a] = value(subtract(sum, Sum{}));
  }
}

// The exponent of the largest number, at most `most` from 0; 0 where that number is not usual.
inline Answers exponent_of(index_t p, const Numbers* numbers, index_t most) {
  Numbers largest = {};
  for (index_t i = 0; i < p; ++i) {
    const Numbers size = absolute(numbers[i]);
    largest = largest < size ? size : largest;
  }
  Answers exponent = ((Answers)largest >> 52) - 1023;
  exponent = exponent < -most ? Answers{} - most : exponent;
  exponent = exponent > most ? Answers{} + most : exponent;
  const Answers usual = (largest > 0) & (largest < __builtin_inf());
  return usual & exponent;
}

template <class T>
inline void curvature_part(const gdcore::HessianLanes& q, int at) {
  constexpr int most = gdcore::most_lane_params;
  const index_t p = q.p;
  const Numbers zero = {}, infinity = zero + __builtin_inf();
  Numbers basis[most][most], image[most];
  for (index_t i = 0; i < p; ++i) basis[0][i] = zero + q.start[i];
  TridiagonalLanes A;
  Numbers scale = zero, shrink = zero, largest = zero, residual = zero;
  Answers going = ~Answers{};
  for (index_t k = 0; k < p && any(going); ++k) {
    const Numbers* const direction = basis[k];
    product<T>(q, at, direction, image);
    if (k == 0) {
      const Answers exponent = exponent_of(p, image, q.most_exponent);
      scale = (Numbers)((1023 + exponent) << 52);
      shrink = (Numbers)((1023 - exponent) << 52);
    }
    for (index_t i = 0; i < p; ++i) image[i] *= shrink;
    A.diagonal[k] = dot(p, direction, image);
    A.n = k + 1;
    for (int pass = 0; pass < 2; ++pass)
      for (index_t row = 0; row <= k; ++row) {
        const Numbers along = dot(p, basis[row], image);
        for (index_t i = 0; i < p; ++i) image[i] -= along * basis[row][i];
      }
    const Numbers beta = sqrt(dot(p, image, image));
    Numbers value = estimated_eigenvalue(A), rest = beta * last_component(A, value);
    const Answers finite = (absolute(A.diagonal[k]) < infinity) & (absolute(beta) < infinity);
    value = finite ? value : infinity;
    rest = finite ? rest : infinity;
    Answers ends = going & finite;
    if (k + 1 < p) ends &= rest <= q.accuracy * value;
    if (any(ends)) {
      const Numbers found = largest_eigenvalue(A, value, ends);
      value = ends ? found : value;
      rest = ends ? beta * last_component(A, value) : rest;
    }
    largest = going ? value : largest;
    residual = going ? rest : residual;
    going &= finite & ~ends;
    A.off[k] = beta;
    if (k + 1 < p)
      for (index_t i = 0; i < p; ++i) basis[k + 1][i] = image[i] / beta;
  }
  store(q.largest + at, largest * scale);
  store(q.residual + at, residual * scale);
}

template <class T>
void curvature_lanes(const gdcore::HessianLanes& given) {
  const gdcore::HessianLanes q = given;
  for (int at = 0; at < gdcore::lanes; at += W<double>) curvature_part<T>(q, at);
}

}  // namespace
