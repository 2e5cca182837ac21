// A pass over the rows of a solved problem that sums what covariances need of its residuals.
#pragma once

#include <vector>

#include "fit/host_rows.hpp"
#include "fit/least_squares.hpp"
#include "fit/passes.hpp"

namespace gdcore {

// Sums of segments of 512 rows, in each by blocks of 64 rows, added as pairs: the bits depend on
// the rows alone.
template <class T>
class ResidualPass {
 public:
  // The meat is summed for the kinds hc0 to hc3.
  void restart(const LeastSquares& solved, Covariance kind);
  // These rows are next. All rows but the last given are a multiple of 512.
  void begin(const Problem<T>& rows);
  // True when they are in; otherwise call again.
  bool run(Budget& budget);

  double rows() const { return sum(0); }  // of weight above 0
  double weight() const { return sum(1); }
  // Sums for target u: squared residuals; y - offset - mean, and its squares.
  double squares(int64_t u) const { return sum(first_of(u)); }
  double deviation(int64_t u) const { return sum(first_of(u) + 1); }
  double deviation_squares(int64_t u) const { return sum(first_of(u) + 2); }
  // The sum over rows of squared residual times z z^T, where z is the row of Q in X = Q R: an entry
  // a <= b of its upper triangle by rows. hc2 divides the square by 1 - z^T z, hc3 twice.
  double meat(int64_t u, int64_t entry) const { return sum(first_of(u) + 3 + entry); }
  // hc2 and hc3: whether 1 - z^T z is 0 for a row, up to rounding errors.
  bool has_full_leverage() const { return has_full_leverage_; }

 private:
  // Rows by columns of 64 entries, each row times the root of its weight. Rows that fill up the
  // lanes are zeros.
  struct Block {
    int64_t rows = 0;  // a multiple of the lanes
    int64_t counted = 0;
    double weight = 0;
    bool has_full_leverage = false;
    std::vector<double> root, x, y, z;   // (64), (p,64), (t,64), (p,64)
    std::vector<double> share, product;  // (64): 1 - z^T z; a column times a factor
    std::vector<double> residual, factor;

    void resize(int64_t p, int64_t t);
    double* column(std::vector<double>& of, int64_t j) const { return of.data() + j * 64; }
  };

  bool has_meat() const { return kind_ > Covariance::ols; }
  int64_t triangle() const { return solved_->p * (solved_->p + 1) / 2; }
  int64_t sums_each() const { return 3 + (has_meat() ? triangle() : 0); }
  int64_t first_of(int64_t u) const { return 2 + u * sums_each(); }
  int64_t sum_count() const { return first_of(solved_->t); }
  double sum(int64_t i) const { return hi_[i] + lo_[i]; }

  void add_segments(const Problem<T>& rows, int64_t segment0, int64_t segment1);
  void sum_segment(const Problem<T>& rows, int64_t segment, Block& block, double* sums) const;
  void read(const Problem<T>& rows, Block& block) const;
  void find_leverages(Block& block) const;
  void add_squares(int64_t u, Block& block, double* sums) const;
  void add_meat(Block& block, double* sums) const;

  const LeastSquares* solved_ = nullptr;
  Covariance kind_ = Covariance::none;
  Problem<T> problem_{};
  HostRows<T> host_rows_;
  Slices slices_;
  int64_t row_ = 0;
  bool has_full_leverage_ = false;
  std::vector<double> hi_, lo_, partials_;
  Block block_;  // of the calling thread
};

}  // namespace gdcore
