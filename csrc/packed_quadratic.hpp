// The sums of a squared error in their packed form, as descents on them are given to a device.
#pragma once

#include <cstddef>
#include <vector>

#include "quadratic.hpp"
#include "sums.hpp"

namespace gdcore {

// Packed: the upper triangle of G by rows, then of each target c (p) and s; for float64 the low
// parts of all of these behind them. Unpacked: as QuadraticArgs wants them.
template <class T>
class PackedQuadratic {
 public:
  static constexpr std::int64_t parts = sizeof(T) == 4 ? 1 : 2;
  static std::int64_t packed_size(std::int64_t p, std::int64_t t) {
    return parts * (p * (p + 1) / 2 + t * (p + 1));
  }

  void unpack(std::int64_t p, std::int64_t t, const double* packed) {
    p_ = p;
    t_ = t;
    ld_ = (p + 7) / 8 * 8;
    // One more target, of zeros: c = 0 and s = 0 give the Hessian's product.
    values_.assign(static_cast<std::size_t>(2 * p * ld_ + (t + 1) * target_size()), 0.0);
    for (std::int64_t part = 0; part < parts; ++part) {
      double* const G = values_.data() + part * p * ld_;
      for (std::int64_t a = 0; a < p; ++a)
        for (std::int64_t b = a; b < p; ++b) G[a * ld_ + b] = G[b * ld_ + a] = *packed++;
      double* target = values_.data() + 2 * p * ld_;
      for (std::int64_t u = 0; u < t; ++u, target += target_size()) {
        for (std::int64_t a = 0; a < p; ++a) target[part * p + a] = *packed++;
        target[2 * p + part] = *packed++;
      }
    }
  }

  std::int64_t parameters() const { return p_; }  // of one target
  std::int64_t targets() const { return t_; }
  double G(std::int64_t a, std::int64_t b) const { return values_[a * ld_ + b]; }
  double G_low(std::int64_t a, std::int64_t b) const { return values_[(p_ + a) * ld_ + b]; }
  const double* c(std::int64_t u) const { return &values_[2 * p_ * ld_ + u * target_size()]; }
  const double* c_low(std::int64_t u) const { return c(u) + p_; }
  double s(std::int64_t u) const { return c(u)[2 * p_]; }

  // Target u (`targets()`: the one of zeros) at parameters `stride` apart.
  QuadraticArgs<T> at(std::int64_t u, const T* params, std::int64_t stride) const {
    return {p_, ld_, values_.data(), c(u), c(u) + 2 * p_, params, stride};
  }

 private:
  std::int64_t target_size() const { return 2 * p_ + 2; }

  std::int64_t p_ = 0, t_ = 0, ld_ = 0;
  std::vector<double> values_;  // G (p, ld), its low parts; then c, its low parts, s, its low part
};

// Writes the packed sums one after the other, in their order: G, then c and s of each target.
// Behind them is the tail: the sum of weights, then of each target, as given, the sum and that of
// its squares, all as pairs.
template <class T>
class PackedWriter {
 public:
  PackedWriter(std::int64_t p, std::int64_t t, double* packed)
      : to_(packed), tail_(packed + PackedQuadratic<T>::packed_size(p, t)) {
    low_ = (tail_ - packed) / parts;
  }
  void put(Pair sum) {
    const double rounded = sum.hi + sum.lo;  // so that the parts do not overlap
    if constexpr (parts == 2) to_[low_] = sum.lo - (rounded - sum.hi);
    *to_++ = rounded;
  }
  void put_tail(Pair sum) {
    *tail_++ = sum.hi;
    *tail_++ = sum.lo;
  }

 private:
  static constexpr std::int64_t parts = PackedQuadratic<T>::parts;
  double *to_, *tail_;
  std::int64_t low_;
};

// given: moments of the columns as they were before a scaling, or `m`.
template <class T>
void pack_moments(const Moments& m, const Moments& given, bool fit_intercept, double* packed) {
  const std::int64_t p = m.d + (fit_intercept ? 1 : 0), columns = m.columns();
  PackedWriter<T> to(p, m.t, packed);
  const auto sum = [](const Moments& of, std::int64_t at) { return Pair{of.hi[at], of.lo[at]}; };
  for (std::int64_t a = 0; a < p; ++a)
    for (std::int64_t b = a; b < p; ++b) to.put(sum(m, a * columns + b));
  for (std::int64_t u = 0; u < m.t; ++u) {
    for (std::int64_t a = 0; a < p; ++a) to.put(sum(m, a * columns + m.d + 1 + u));
    to.put(sum(m, (m.d + 1) * columns + u));
  }
  to.put_tail(sum(given, m.d * (columns + 1)));
  for (std::int64_t u = 0; u < m.t; ++u) {
    to.put_tail(sum(given, m.d * columns + m.d + 1 + u));
    to.put_tail(sum(given, (m.d + 1) * columns + u));
  }
}

}  // namespace gdcore
