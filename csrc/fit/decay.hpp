// Exponential weights of rows: half as much for each half-life that a row is older.
#pragma once

#include <cmath>
#include <vector>

#include "fit/problem.hpp"

namespace gdcore {

// Row j weighs 2^(age[j] / half_life), as a number of about 1 times a power of two. Sums of
// products move from one power to another without a rounding error, and a row that leaves has the
// weight with which it came.
template <class T>
class Decay {
 public:
  Decay() = default;
  Decay(const std::vector<double>& ages, double half_life) {
    for (const double age : ages) {
      const double power = std::nearbyint(age / half_life);
      power_.push_back(static_cast<int64_t>(power));
      root_.push_back(exp2(std::fma(-power, half_life, age) / half_life));
    }
  }

  explicit operator bool() const { return !power_.empty(); }
  int64_t power(int64_t row) const { return power_[static_cast<size_t>(row)]; }

  // The rows [first, last) of a problem, their weights times 2^-power(last - 1) in `storage`.
  Problem<T> weigh(const Problem<T>& problem, int64_t first, int64_t last,
                   std::vector<T>& storage) const {
    Problem<T> rows = problem.rows(first, last - first);
    storage.resize(static_cast<size_t>(rows.n));
    for (int64_t i = 0; i < rows.n; ++i) {
      const double own =
          rows.sample_weight.data ? rows.sample_weight.data[i * rows.sample_weight.stride] : 1;
      const auto shift = static_cast<int>(power(first + i) - power(last - 1));
      storage[i] = static_cast<T>(std::ldexp(own * root_[first + i], shift));
    }
    rows.sample_weight = {storage.data(), 1};
    return rows;
  }

 private:
  // 2^x for |x| <= 1/2 by Taylor's series, whose rest is below 2^-57: a library's would have other
  // bits on other machines.
  static double exp2(double x) {
    const double exponent = x * 0x1.62e42fefa39efp-1;  // log 2
    double sum = 1;
    for (int k = 14; k > 0; --k) sum = std::fma(sum, exponent / k, 1.0);
    return sum;
  }

  std::vector<int64_t> power_;
  std::vector<double> root_;  // from 2^-1/2 to 2^1/2
};

}  // namespace gdcore
