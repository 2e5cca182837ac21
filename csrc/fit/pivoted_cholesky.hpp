// Cholesky's factorisation with pivoting, and least squares from second moments in pairs by it.
#pragma once

#include <numeric>
#include <utility>
#include <vector>

#include "double_double.hpp"
#include "fit/pivoted_qr.hpp"
#include "fit/problem.hpp"

namespace gdcore {

// L D L^T of a symmetric matrix (p, p) with right sides (p, t) behind it. The upper triangle is
// read and written: it becomes D L^T, of which the first `rank` rows count.
template <class Number>
class PivotedCholesky {
 public:
  PivotedCholesky(int64_t p, int64_t t)
      : p_(p), width_(p + t), a_(static_cast<size_t>(p * width_)), order_(static_cast<size_t>(p)) {
    std::iota(order_.begin(), order_.end(), 0);
  }

  Number& at(int64_t i, int64_t j) { return a_[static_cast<size_t>(i * width_ + j)]; }
  const Number& at(int64_t i, int64_t j) const { return a_[static_cast<size_t>(i * width_ + j)]; }

  // Takes the column with the largest square left, size(square, column), while is_pivot(that, the
  // first one's) is true. Returns the rank.
  template <class Size, class IsPivot>
  int64_t factorise(const Size& size, const IsPivot& is_pivot) {
    const auto square = [&](int64_t j) { return size(rounded(at(j, j)), order_[j]); };
    double first = 0;
    for (rank_ = 0; rank_ < p_; ++rank_) {
      int64_t best = rank_;
      for (int64_t j = rank_ + 1; j < p_; ++j)
        if (square(j) > square(best)) best = j;
      const double pivot = square(best);
      if (rank_ == 0) first = pivot;
      if (!is_pivot(pivot, first)) break;
      if (best != rank_) swap(rank_, best);
      eliminate(rank_);
    }
    return rank_;
  }

  // Columns of the matrix in the order of the pivots.
  const std::vector<int64_t>& order() const { return order_; }

  // A solution for right side u: 0 in the columns left out.
  void solve(int64_t u, std::vector<Number>& x) const {
    std::vector<Number> z(static_cast<size_t>(rank_));
    x.assign(static_cast<size_t>(p_), Number{});
    for (int64_t k = rank_; k-- > 0;) {
      Number sum = at(k, p_ + u);
      for (int64_t j = k + 1; j < rank_; ++j) sum = sum - at(k, j) * z[j];
      z[k] = sum / at(k, k);
      x[order_[k]] = z[k];
    }
  }

 private:
  // Rows and columns k < i of the symmetric matrix, of which the upper triangle is kept.
  void swap(int64_t k, int64_t i) {
    std::swap(order_[k], order_[i]);
    for (int64_t j = 0; j < k; ++j) std::swap(at(j, k), at(j, i));
    std::swap(at(k, k), at(i, i));
    for (int64_t j = k + 1; j < i; ++j) std::swap(at(k, j), at(j, i));
    for (int64_t j = i + 1; j < width_; ++j) std::swap(at(k, j), at(i, j));
  }

  void eliminate(int64_t k) {
    for (int64_t i = k + 1; i < p_; ++i) {
      const Number factor = at(k, i) / at(k, k);
      if (rounded(factor) == 0) continue;
      for (int64_t j = i; j < width_; ++j) at(i, j) = at(i, j) - factor * at(k, j);
    }
  }

  int64_t p_, width_, rank_ = 0;
  std::vector<Number> a_;  // (p, width)
  std::vector<int64_t> order_;
};

// The factor of a problem whose second moments these are, weight decay included.
template <class T>
Pivoted factorise(const Problem<T>& problem, const Moments& moments, const ExactOptions& options);

// The same with all that a covariance of kind "ols" is made of, but for the number of rows.
template <class T>
void describe(const Problem<T>& problem, const Moments& moments, const ExactOptions& options,
              LeastSquares& solved);

template <class T>
Solution<T> solve(const Problem<T>& problem, const Moments& moments, const ExactOptions& options) {
  return solution_of<T>(factorise(problem, moments, options));
}

}  // namespace gdcore
