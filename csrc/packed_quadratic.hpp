// The sums of a squared error in their packed form, as descents on them are given to a device.
#pragma once

#include <cstddef>
#include <vector>

#include "quadratic.hpp"

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

}  // namespace gdcore
