// When a descent has arrived: its predictions are within tol * sd(y), root mean square, of those
// that fit best (docs/numerics.md, "CONVERGED").
#pragma once

#include <type_traits>
#include <vector>

#include "contract.hpp"
#include "fit/quadratic.hpp"

namespace gdcore {

// Sums of float32 data are doubles, those of float64 data pairs, and so is what follows from them.
template <class T>
using Sum = std::conditional_t<sizeof(T) == 4, double, Pair>;

// The objective of one target in its p parameters: scale * squared error + weight_decay / 2 times
// the squares of the first `decayed` parameters.
struct Objective {
  Scale scale;
  double weight_decay = 0;
  int64_t decayed = 0;
};

// How a descent's parameters become those that the caller gets; null scaling: as they are.
struct Returned {
  int64_t d, t;
  bool fit_intercept;
  const double* scaling;
};

template <class T>
class Goal {
 public:
  Goal() = default;
  // The quadratic has to outlive the goal. It needs a row of weight above 0.
  void assign(const Quadratic<T>& quadratic, const Objective& objective, double tol,
              const Returned& returned);

  // False where rounding errors hide which minimiser is the least.
  bool known() const { return known_; }
  int64_t rank() const { return rank_; }
  double allowed(int64_t u) const { return allowed_[static_cast<size_t>(u)]; }
  // The variance of a target in the unit of the objective; 0 if it is constant.
  double spread(int64_t u) const { return spread_[static_cast<size_t>(u)]; }
  const std::vector<double>& minimiser() const { return minimiser_; }  // (p, t)

  // A gradient of a larger norm belongs to parameters that have not arrived.
  static double norm_bound(const Quadratic<T>& quadratic, const Objective& objective, double tol);
  // The same from packed sums.
  static double norm_bound(int64_t p, int64_t t, const double* packed, const Objective& objective,
                           double tol);

  // Whether the gap is small enough for every target, by half of g.(w - w*): g from the sums.
  bool reached(const LinearSums& sums, const T* params) const;
  // Whether it is so, within a factor of 4, at the parameters as the caller gets them.
  bool confirmed(const T* params) const;
  // The gap of one target at the parameters of the descent.
  double gap(const T* params, int64_t u) const;
  // The R^2 that those parameters lose, the most of any target whose y is not constant; NaN if all
  // are constant.
  double r2_lost(const T* params) const;

 private:
  double gap_of(const T* params, int64_t u, const double* scaling,
                std::vector<Sum<T>>& delta) const;
  std::vector<T> returned(const T* params) const;

  const Quadratic<T>* quadratic_ = nullptr;
  Objective objective_{};
  Returned returned_{};
  bool known_ = false;
  int64_t p_ = 0, t_ = 0, rank_ = 0;
  double trace_ = 0;
  std::vector<double> minimiser_, minimiser_low_, allowed_, spread_;
};

}  // namespace gdcore
