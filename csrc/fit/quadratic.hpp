// The squared error as a quadratic in the parameters: what one pass over the rows leaves of them.
#pragma once

#include <algorithm>
#include <vector>

#include "device.hpp"

namespace gdcore {

// Sums over the rows from their second moments alone, as often as asked.
template <class T>
class Quadratic {
 public:
  Quadratic() = default;
  Quadratic(const Moments& moments, bool fit_intercept, const double* scaling = nullptr) {
    assign(moments, fit_intercept, scaling);
  }
  void assign(const Moments& moments, bool fit_intercept, const double* scaling = nullptr);

  // Packed form. For one target: upper triangle of G by rows, c and s; the low parts of the same if
  // they are pairs; then a Tail.
  static int64_t packed_size(int64_t p, int64_t t) { return sums_size(p, t) + 2 + 4 * t; }
  // With a scaling, of the standardised columns.
  static void pack(const Moments& moments, bool fit_intercept, const double* scaling,
                   double* packed);
  // Pairs: the sum of weights; of each target, as given, the sum and that of its squares.
  class Tail {
   public:
    explicit Tail(const double* values) : values_(values) {}
    double sample_weight() const { return values_[0]; }
    double variance(int64_t u) const {  // about the mean
      const Pair mean = pair(u, 0), square = pair(u, 2);
      return std::max(0.0, rounded(square - mean * mean));
    }
    double mean_square(int64_t u) const { return rounded(pair(u, 2)); }

   private:
    Pair pair(int64_t u, int64_t part) const {
      const double* const sum = values_ + 2 + 4 * u + part;
      return Pair{sum[0], sum[1]} / Pair{values_[0], values_[1]};
    }
    const double* values_;
  };
  static Tail tail(int64_t p, int64_t t, const double* packed) {
    return Tail(packed + sums_size(p, t));
  }
  void assign(int64_t d, int64_t t, bool fit_intercept, const double* packed);
  const double* packed() const { return packed_.data(); }  // of so few parameters as lanes take

  // One of several side by side: see DescentLanes.
  static void spread(int64_t p, const double* packed, int64_t lanes, double* G, double* c,
                     double* s);
  // See the others.
  static double least_known(int64_t p, const double* packed, const T* params);

  // At parameters (d+intercept, t).
  void sums(const T* params, LinearSums& out);
  // The same for y = 0, one target: the Hessian's product, but for its scale.
  void product(const T* direction, LinearSums& out);

  int64_t parameters() const { return p_; }  // of one target
  int64_t targets() const { return t_; }
  Pair G(int64_t a, int64_t b) const {
    return {values_[a * ld_ + b], parts == 2 ? values_[(p_ + a) * ld_ + b] : 0.0};
  }
  Pair c(int64_t a, int64_t u) const {
    return {target(u)[a], parts == 2 ? target(u)[p_ + a] : 0.0};
  }
  double sample_weight() const { return Tail(tail_.data()).sample_weight(); }
  // Of y - offset.
  double variance(int64_t u) const { return Tail(tail_.data()).variance(u); }
  double mean_square(int64_t u) const { return Tail(tail_.data()).mean_square(u); }

  int64_t work() const { return p_ * p_ * t_; }
  // A sum of squares up to this is too small a part of the terms it is made of for this arithmetic
  // to know.
  double least_known(const T* params) const;
  static double least_known_of(int64_t p, double terms);  // their sum

 private:
  static constexpr int64_t parts = sizeof(T) == 4 ? 1 : 2;
  static int64_t sums_size(int64_t p, int64_t t) { return parts * (p * (p + 1) / 2 + t * (p + 1)); }
  double evaluate(const double* target, const T* params, int64_t stride);
  void put(int64_t u, int64_t t, double squares, LinearSums& out) const;

  static int64_t ld_of(int64_t p) { return (p + 7) / 8 * 8; }
  static int64_t target_of(int64_t p) { return 2 * p + 2; }
  const double* target(int64_t u) const { return &values_[2 * p_ * ld_ + u * target_of(p_)]; }

  bool fit_intercept_ = false;
  int64_t p_ = 0, t_ = 0, ld_ = 0;
  // G (p, ld) and its low parts; of each target, and of zeros: c (p), its low parts, s, its low
  // part.
  std::vector<double> values_;
  std::vector<double> packed_;    // empty if there are many
  std::vector<double> tail_;      // see Tail
  std::vector<double> gradient_;  // (2 p)
};

}  // namespace gdcore
