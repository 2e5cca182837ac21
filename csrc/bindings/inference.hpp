// What a solution says of the uncertainty of its weights, and the rows that it reads for this.
#pragma once

#include <optional>

#include "bindings/either.hpp"
#include "bindings/problem.hpp"
#include "fit/inference.hpp"

namespace gdcore {

class PyInference {
 public:
  PyInference(bool single, LeastSquares solved, Covariance kind);

  bool needs_rows() const;
  void begin_rows(const PyProblem& rows);
  bool advance(double seconds, int n_threads) const;
  // Covariances (t p p), variances of the errors (t), R^2 (t), degrees of freedom, flaw.
  py::tuple result() const;

 private:
  std::optional<PyProblem> rows_;
  Either<Inference> inference_;
};

}  // namespace gdcore
