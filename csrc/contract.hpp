// The constants and closing formulas of numerics v2 (docs/numerics.md), shared by every device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hd.hpp"

namespace gdcore {

using std::int64_t;
using std::size_t;

// Version 2 differs from 1 in sums of more than 262 144 terms.
constexpr int numerics_version = 2;

// A sum over lanes has V of them, term i in lane i mod V.
constexpr int V = 16;

// L: a long sum is cut into segments of L terms, each starting at +0. Also GEMM's KC.
template <class T>
constexpr int64_t L = 512;

// A long sum's partials are a long sum again: fan_in of them make a piece, whose sum is a partial
// of the level above. The highest level has no end.
constexpr int64_t fan_in = 512;
constexpr size_t sum_levels = 4;

// Terms up to which the partials are added in one chain.
template <class T>
constexpr int64_t chain_terms = L<T> * fan_in;

// Terms of each part but the last of a sum of more than chain_terms: the sums of the parts are
// added in one chain, each begins with its own first segment.
template <class T>
GDCORE_HD constexpr int64_t part_of(int64_t terms) {
  int64_t part = chain_terms<T>;
  for (size_t level = 2; level < sum_levels && (terms - 1) / part >= fan_in; ++level)
    part *= fan_in;
  return part;
}

GDCORE_HD constexpr int64_t ceil_div(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}

// Lanes of a sum of k terms: 16, or for short sums the next power of two, so that rows can share a
// vector.
GDCORE_HD constexpr int64_t lanes_of(int64_t k) {
  return k > 8 ? 16 : k > 4 ? 8 : k > 2 ? 4 : k > 1 ? 2 : 1;
}

// Chains of a gradient entry of one target, row i in chain i mod chains_of(d).
GDCORE_HD constexpr int64_t chains_of(int64_t d) { return d > 16 ? 1 : d > 4 ? 2 : V; }

enum class Reduction { mean, sum, half_mean, half_sum };

// loss = T(sum of squares / divisor); gradient = T(gradient * sum of products): in double, rounded
// once.
struct Scale {
  double divisor;   // of the sum of squares
  double gradient;  // of the sum of residual times input
};

// `count` is the number of elements, or the sum of their sample weights; `slope` the loss's scale.
GDCORE_HD inline Scale scale_of(Reduction reduction, double count, double slope = 2.0) {
  switch (reduction) {
    case Reduction::mean: return {count, slope / count};
    case Reduction::half_mean: return {2.0 * count, slope / 2.0 / count};
    case Reduction::sum: return {1.0, slope};
    case Reduction::half_sum: return {2.0, slope / 2.0};
  }
  return {1.0, 1.0};
}
// No elements: a loss of 0 and a gradient of 0, in place of divisions by 0.
GDCORE_HD inline Scale scale_or_zero(Reduction reduction, double count) {
  return count == 0 ? Scale{1.0, 0.0} : scale_of(reduction, count);
}

// The two closing formulas: a sum in double becomes a loss or an entry of the gradient.
template <class T>
GDCORE_HD inline T closed_loss(const Scale& scale, double squares) {
  return static_cast<T>(squares / scale.divisor);
}
template <class T>
GDCORE_HD inline T closed_gradient(const Scale& scale, double sum) {
  return static_cast<T>(scale.gradient * sum);
}

}  // namespace gdcore
