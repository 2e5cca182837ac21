// Least squares from second moments, where they know the solution better than its type can tell.
#pragma once

#include <vector>

#include "fit/pivoted_qr.hpp"
#include "fit/problem.hpp"
#include "fit/quadratic.hpp"

namespace gdcore {

template <class T>
class NormalEquations {
 public:
  // Minimises loss + weight_decay / 2 * |params|^2 over a problem's rows, given what `Quadratic`
  // packs of them. False where rounding errors of the moments could be more than those of T in the
  // parameters, as a whole: where columns are ill-conditioned, and for all float64 data. False too
  // if T does not hold them, and where weight decay refers to standardised columns.
  bool solve(const Problem<T>& problem, const double* packed, const ExactOptions& options);

  // The solution in double; the rows tell the squares.
  void describe(const Problem<T>& problem, const double* packed, LeastSquares& solved) const;

  const std::vector<T>& params() const { return params_; }
  bool loss_known() const { return squares_known_; }  // or too small for the moments to tell
  T loss() const { return loss_; }

 private:
  bool factorise(const double* packed, double penalty, int64_t penalised);
  double squares_of_inverse_row(int64_t row);
  void substitute();
  void measure(const double* packed);

  int64_t p_ = 0, t_ = 0, width_ = 0;
  std::vector<double> a_;  // (p, p + t): R, its diagonal inverted, and right sides, then solutions
  std::vector<double> scale_, inverse_;
  std::vector<T> params_;
  double squares_ = 0;
  bool squares_known_ = false;
  T loss_ = 0;
};

}  // namespace gdcore
