// What a descent on a quadratic will do, known before its first step from the Hessian's spectrum.
#pragma once

#include <vector>

#include "device.hpp"
#include "fit/goal.hpp"

namespace gdcore {

// Eigenvalues of a symmetric matrix (p, p), ascending, and the components of `vectors` (count, p)
// along the eigenvectors: Householder's tridiagonal form, then QL with implicit shifts (Golub, Van
// Loan, 8.3). No eigenvector is formed.
void eigen(int64_t p, std::vector<double> matrix, int64_t count, std::vector<double>& vectors,
           std::vector<double>& values);

template <class T>
class Outlook {
 public:
  static constexpr int64_t never = -1;
  static constexpr int64_t most_parameters = 512;  // beyond, the spectrum takes seconds

  // Looks ahead of a descent from `start` (p, t), in the coordinates of the quadratic.
  void assign(const Quadratic<T>& quadratic, const Objective& objective, const Goal<T>& goal,
              const T* start);

  double largest() const { return largest_; }
  double smallest() const { return smallest_; }  // of those within the rank
  double condition() const { return largest_ / std::max(smallest_, noise_); }

  // Epochs to the goal, exact but for rounding errors; never: it cannot arrive. `most`: from these
  // on it surely is there, for momentum may pass the goal and swing back.
  int64_t epochs(const SgdOptions& sgd, double lr) const;
  int64_t most_epochs(const SgdOptions& sgd, double lr) const;
  // R^2 that is still lost after `epochs` epochs; NaN if every y is constant.
  double r2_lost(const SgdOptions& sgd, double lr, int64_t epochs) const;

  // The heavy ball that takes the fewest epochs (Polyak 1964). If these are more than `epochs`, the
  // one for the modes that can arrive within `epochs`. Rates kept from an earlier run stay if they
  // were chosen for the same largest eigenvalue.
  struct Rates {
    double lr, momentum;  // NaN: none
  };
  Rates heavy_ball(int64_t epochs, const Rates& kept) const;

 private:
  struct Mode;
  class Powers;
  double gap(int64_t u, const std::vector<Mode>& modes) const;
  bool arrived(const std::vector<Mode>& modes) const;
  int64_t first_arrival(const SgdOptions& sgd, double lr, int64_t most) const;

  int64_t p_ = 0, t_ = 0;
  double largest_ = 0, smallest_ = 0, noise_ = 0;
  std::vector<double> values_, components_;  // (p); (t, p): of start - minimiser
  std::vector<double> hidden_;  // (t): gap of the modes whose eigenvalues are rounding noise
  std::vector<double> allowed_, spread_;  // (t): of the objective
};

}  // namespace gdcore
