// Least squares in closed form: an orthogonal factorisation that reads the rows once and never
// squares X.
#pragma once

#include <vector>

#include "fit/host_rows.hpp"
#include "fit/passes.hpp"
#include "fit/pivoted_qr.hpp"

namespace gdcore {

// Minimises loss + weight_decay / 2 * |params|^2, the objective whose gradient SGD descends.
template <class T>
class Exact {
 public:
  Exact(const Problem<T>& problem, const ExactOptions& options);

  // True when every row is in; otherwise call again. There must be a row.
  bool advance(double seconds);
  bool advance(Budget& budget);

  // More rows of the same problem to advance over, all before them being in. The bits are those of
  // one problem if every set of rows but the last is a multiple of 64.
  void go_on(const Problem<T>& rows);

  // Once, at the end. `solved` needs a kind of covariance among the options, and no weight decay.
  Solution<T> solve(LeastSquares* solved = nullptr);

 private:
  void scale(std::vector<double>& block, int64_t rows);
  void absorb(std::vector<double>& block, int64_t rows);
  void absorb_penalty();
  void sum_residuals(const std::vector<double>& block, int64_t rows);
  void describe(LeastSquares& solved) const;
  struct Spread {
    double mean, deviation;  // deviation 0: none but rounding errors
  };
  Spread spread(int64_t column) const;
  double total() const;
  double tolerance() const;

  void read(const Problem<T>& rows, int64_t count, std::vector<double>& block);

  Problem<T> problem_;
  HostRows<T> host_rows_;
  ExactOptions options_;
  int64_t p_, width_;           // columns, columns and targets
  std::vector<double> factor_;  // (p, width): R and Q^T y
  std::vector<int> exponent_;   // column j of R is that of X times 2^-exponent
  int64_t row_ = 0, rows_ = 0;  // done of these rows, and of all
  int64_t weightless_ = 0;      // rows of weight 0
  double weight_sum_ = 0;
  std::vector<Pair> squares_;  // (t): of residuals; none if no covariance is asked for
};

}  // namespace gdcore
