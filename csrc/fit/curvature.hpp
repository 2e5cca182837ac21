// The largest eigenvalue of the loss's Hessian, which says which learning rates converge.
#pragma once

#include <vector>

#include "fit/passes.hpp"
#include "lanczos.hpp"

namespace gdcore {

// Lanczos on H = scale * [X 1]^T S [X 1]: on second moments where one pass for them costs less than
// a pass over X a step.
template <class T>
class Spectrum {
 public:
  Spectrum() = default;
  explicit Spectrum(const Problem<T>& problem, const Quadratic<T>* quadratic = nullptr) {
    restart(problem, quadratic);
  }
  // A quadratic, if there is one, stands for the rows: they are not read. Memory of an earlier
  // problem is used again.
  void restart(const Problem<T>& problem, const Quadratic<T>* quadratic);

  // True when done; otherwise call again.
  bool advance(double seconds);
  bool advance(Budget& budget);

  double largest() const { return scale_ * lanczos_.largest(); }
  double residual() const { return scale_ * lanczos_.residual(); }

 private:
  bool sum_moments(Budget& budget);
  void step();

  Problem<T> problem_{};
  int64_t targets_ = 0;
  bool on_quadratic_ = false, moments_due_ = false;
  MomentsPass<T> moments_;
  Quadratic<T> quadratic_;
  Pass<T> pass_;
  std::vector<T> direction_;
  std::vector<double> image_;  // (p)
  Lanczos lanczos_;
  double scale_ = 0;
};

// Curvature of the steepest single row: scale * max (|x|^2 + 1), times its weight if the reduction
// is a sum.
template <class T>
double largest_row(const Problem<T>& problem);

}  // namespace gdcore
