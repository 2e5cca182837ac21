// The squared error as a quadratic in the parameters: what one pass over the rows leaves of them.
#pragma once

#include <vector>

#include "device.hpp"

namespace gdcore {

// Sums over the rows from their second moments alone, as often as asked.
template <class T>
class Quadratic {
 public:
  Quadratic(const Moments& moments, bool fit_intercept);

  // At parameters (d+intercept, t).
  void sums(const T* params, LinearSums& out);
  // The same for y = 0, one target: the Hessian's product, but for its scale.
  void product(const T* direction, LinearSums& out);

  // Where this quadratic is one of several side by side: see QuadraticLanes.
  void spread(double* G, double* c, double* s, int64_t lanes) const;
  double sample_weight() const { return sample_weight_; }

  int64_t work() const { return p_ * p_ * t_; }
  // A sum of squares up to this is too small a part of the terms it is made of for this arithmetic
  // to know.
  double least_known(const T* params) const;

 private:
  double evaluate(const double* target, const T* params, int64_t stride);
  void put(int64_t u, int64_t t, double squares, LinearSums& out) const;

  bool fit_intercept_;
  int64_t p_, t_, ld_;
  double sample_weight_ = 0, squares_ = 0;
  std::vector<double> G_, targets_;  // each target: c (p), its low parts, s, its low part
  std::vector<double> gradient_;     // (2 p)
};

}  // namespace gdcore
