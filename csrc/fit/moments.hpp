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

  // All that it is in few numbers: those of one target are, as far as they are not pairs, the upper
  // triangle of G (p,p) in rows, c (p) and s, and then the sum of the sample weights.
  static int64_t packed_size(int64_t p, int64_t t) {
    return parts * (p * (p + 1) / 2 + t * (p + 1)) + 1;
  }
  static void pack(const Moments& moments, bool fit_intercept, double* packed);
  void assign(int64_t d, int64_t t, bool fit_intercept, const double* packed);
  const double* packed() const { return packed_.data(); }  // of so few parameters as lanes take

  // One of several side by side: see DescentLanes.
  static void spread(int64_t p, const double* packed, int64_t lanes, double* G, double* c,
                     double* s);
  // See the others.
  static double least_known(int64_t p, const double* packed, const T* params);

  // At parameters (d+intercept, t).
  void sums(const T* params, LinearSums& out);
  // The same for y = 0, one target: the Hessian's product, but for its scale.
  void product(const T* direction, LinearSums& out);

  int64_t work() const { return p_ * p_ * t_; }
  // A sum of squares up to this is too small a part of the terms it is made of for this arithmetic
  // to know.
  double least_known(const T* params) const;
  static double least_known_of(int64_t p, double terms);  // their sum

 private:
  static constexpr int64_t parts = sizeof(T) == 4 ? 1 : 2;
  double evaluate(const double* target, const T* params, int64_t stride);
  void put(int64_t u, int64_t t, double squares, LinearSums& out) const;

  static int64_t ld_of(int64_t p) { return (p + 7) / 8 * 8; }
  static int64_t target_of(int64_t p) { return 2 * p + 2; }
  const double* target(int64_t u) const { return &values_[2 * p_ * ld_ + u * target_of(p_)]; }

  bool fit_intercept_ = false;
  int64_t p_ = 0, t_ = 0, ld_ = 0;
  // G (p, ld) and its low parts; of each target, and of zeros: c (p), its low parts, s, its low
  // part.
  std::vector<double> values_;
  std::vector<double> packed_;  // empty if there are many
  double sample_weight_ = 0;
  std::vector<double> gradient_;  // (2 p)
};

}  // namespace gdcore
