// One least-squares problem as the fitting algorithms see it.
#pragma once

#include "device.hpp"
#include "fit/goal.hpp"
#include "fit/quadratic.hpp"

namespace gdcore {

// Parameters are one array: weights (d,t), then intercept (t) if there is one.
template <class T>
struct Problem {
  int64_t n, d, t;
  Matrix<const T> X, y, offset;   // offset.data may be null
  Vector<const T> sample_weight;  // may be null
  bool fit_intercept;
  Reduction reduction;
  const double* scaling = nullptr;  // see LinearArgs: parameters are those of standardised columns
  const Device<T>* device = nullptr;  // where the arrays are

  int64_t size() const { return (d + (fit_intercept ? 1 : 0)) * t; }

  // The problem of the rows [first, first + count).
  Problem rows(int64_t first, int64_t count) const {
    Problem part = *this;
    part.n = count;
    part.X.data += first * X.rs;
    part.y.data += first * y.rs;
    if (offset.data) part.offset.data += first * offset.rs;
    if (sample_weight.data) part.sample_weight.data += first * sample_weight.stride;
    return part;
  }

  LinearArgs<T> args(const T* params) const {
    LinearArgs<T> a{n, d, t, X, y, offset, sample_weight, {params, t, 1}, {nullptr, 0}};
    if (fit_intercept) a.intercept = {params + d * t, 1};
    a.scaling = scaling;
    return a;
  }

  // The number of elements, or the sum of their weights, that sums over `rows` rows are made of.
  double count(int64_t rows, const LinearSums& sums) const {
    return (sample_weight.data ? sums.sample_weight : static_cast<double>(rows)) *
           static_cast<double>(t);
  }

  // total_weight: the sum of the rows' weights; without weights their number.
  Objective objective(double total_weight, const SgdOptions& sgd) const {
    const int64_t p = d + (fit_intercept ? 1 : 0);
    return {scale_of(reduction, total_weight * static_cast<double>(t)), sgd.weight_decay,
            sgd.decay_intercept ? p : d};
  }
  Returned returned() const { return {d, t, fit_intercept, scaling}; }

  // Rows of no weight have neither a loss nor a gradient.
  Scale scale(int64_t rows, const LinearSums& sums) const {
    return scale_or_zero(reduction, count(rows, sums));
  }

  // The loss; and the gradient of all parameters, unless it is null.
  T close(int64_t rows, const LinearSums& sums, T* gradient) const {
    const Scale by = scale(rows, sums);
    if (gradient) {
      for (double sum : sums.weights) *gradient++ = closed_gradient<T>(by, sum);
      if (fit_intercept)
        for (double sum : sums.intercept) *gradient++ = closed_gradient<T>(by, sum);
    }
    return closed_loss<T>(by, sums.squares);
  }
};

// The problem of other rows.
template <class T>
Problem<T> with_rows(Problem<T> problem, const LinearArgs<T>& rows) {
  problem.n = rows.n;
  problem.X = rows.X;
  problem.y = rows.y;
  problem.offset = rows.offset;
  problem.sample_weight = rows.sample_weight;
  return problem;
}

}  // namespace gdcore
