// Least squares from second moments in pairs: Cholesky's factorisation with pivoting.
#pragma once

#include "fit/pivoted_qr.hpp"
#include "fit/problem.hpp"

namespace gdcore {

// The factor of a problem whose second moments these are, weight decay included.
template <class T>
Pivoted factorise(const Problem<T>& problem, const Moments& moments, const ExactOptions& options);

template <class T>
Solution<T> solve(const Problem<T>& problem, const Moments& moments, const ExactOptions& options) {
  return solution_of<T>(factorise(problem, moments, options));
}

}  // namespace gdcore
