// The squared error as a quadratic in the parameters, from the second moments of the rows.
#pragma once

#include <algorithm>
#include <vector>

#include "device.hpp"
#include "packed_quadratic.hpp"

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

  // Packed form: see PackedQuadratic and PackedWriter.
  static int64_t packed_size(int64_t p, int64_t t) { return sums_size(p, t) + 2 + 4 * t; }
  // With a scaling, of the standardised columns.
  static void pack(const Moments& moments, bool fit_intercept, const double* scaling,
                   double* packed);
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
  // Whether its sums are finite and its squares in the range that Moments names.
  static bool usable(int64_t p, int64_t t, const double* packed);
  // Null if there are more parameters than most_packed.
  const double* packed() const { return packed_.empty() ? nullptr : packed_.data(); }
  static constexpr int64_t most_packed = 64;

  // At parameters (d+intercept, t).
  void sums(const T* params, LinearSums& out);
  // The same for y = 0, one target: the Hessian's product, but for its scale.
  void product(const T* direction, LinearSums& out);

  int64_t parameters() const { return sums_.parameters(); }  // of one target
  int64_t targets() const { return sums_.targets(); }
  Pair G(int64_t a, int64_t b) const { return {sums_.G(a, b), sums_.G_low(a, b)}; }
  Pair c(int64_t a, int64_t u) const { return {sums_.c(u)[a], sums_.c_low(u)[a]}; }
  double sample_weight() const { return Tail(tail_.data()).sample_weight(); }
  // The variance and the mean square of y - offset.
  double variance(int64_t u) const { return Tail(tail_.data()).variance(u); }
  double mean_square(int64_t u) const { return Tail(tail_.data()).mean_square(u); }

  int64_t work() const { return parameters() * parameters() * targets(); }
  // A sum of squares up to this is too small a part of its terms for this arithmetic to know.
  double noise_floor(const T* params) const;
  static double noise_floor(int64_t p, int64_t t, const double* packed, const T* params);
  static double noise_floor_of(int64_t p, double terms);  // terms: their sum

 private:
  static constexpr int64_t parts = PackedQuadratic<T>::parts;
  static int64_t sums_size(int64_t p, int64_t t) { return PackedQuadratic<T>::packed_size(p, t); }
  void put(int64_t u, int64_t t, double squares, LinearSums& out) const;

  bool fit_intercept_ = false;
  PackedQuadratic<T> sums_;
  std::vector<double> packed_, tail_;
  std::vector<double> gradient_;  // (2 p)
};

}  // namespace gdcore
