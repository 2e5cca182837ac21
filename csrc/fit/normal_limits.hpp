// When second moments of float32 rows solve least squares: see docs/numerics.md.
#pragma once

namespace gdcore {

// The most that the squares of all entries of R^-1 may sum to, where G = R^T R has columns of
// length 1 to 2: then G is conditioned like 4 p times this at worst, and rounding errors of the
// moments (at random like 1e-15 of them) change the parameters by less than float32 rounds.
constexpr double most_squares = 0x1p16;
// All pivots of columns of unit norm are larger then.
constexpr double least_pivot = 0x1p-9;

}  // namespace gdcore
