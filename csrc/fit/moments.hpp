// The squared error as a quadratic in the parameters: what one pass over the rows leaves of them.
#pragma once

#include <vector>

#include "device.hpp"

namespace gdcore {

// Sums over the rows from their second moments alone, as often as asked.
template <class T>
class Quadratic {
 public:
  Quadratic() = default;
  Quadratic(const Moments& moments, bool fit_intercept) { assign(moments, fit_intercept); }
  void assign(const Moments& moments, bool fit_intercept);

  // All that it is, as numbers to be kept elsewhere and assigned to one of the same sizes.
  const std::vector<double>& values() const { return values_; }
  void assign(int64_t d, int64_t t, bool fit_intercept, const double* values);
  static int64_t values_of(int64_t p, int64_t t) {
    return 2 * p * ld_of(p) + (t + 1) * target_of(p) + 2;
  }

  // At parameters (d+intercept, t).
  void sums(const T* params, LinearSums& out);
  // The same for y = 0, one target: the Hessian's product, but for its scale.
  void product(const T* direction, LinearSums& out);

  // Where this quadratic is one of several side by side: see DescentLanes.
  void spread(double* G, double* c, double* s, int64_t lanes) const;
  double sample_weight() const { return values_[values_.size() - 2]; }

  int64_t work() const { return p_ * p_ * t_; }
  // A sum of squares up to this is too small a part of the terms it is made of for this arithmetic
  // to know.
  double least_known(const T* params) const;

 private:
  double evaluate(const double* target, const T* params, int64_t stride);
  void put(int64_t u, int64_t t, double squares, LinearSums& out) const;

  static int64_t ld_of(int64_t p) { return (p + 7) / 8 * 8; }
  static int64_t target_of(int64_t p) { return 2 * p + 2; }
  void resize(int64_t d, int64_t t, bool fit_intercept);
  const double* target(int64_t u) const { return &values_[2 * p_ * ld_ + u * target_of(p_)]; }
  double squares() const { return values_.back(); }

  bool fit_intercept_ = false;
  int64_t p_ = 0, t_ = 0, ld_ = 0;
  // G (p, ld) and its low parts; of each target, and of zeros: c (p), its low parts, s, its low
  // part; the sum of the sample weights; the squares of all targets.
  std::vector<double> values_;
  std::vector<double> gradient_;  // (2 p)
};

}  // namespace gdcore
