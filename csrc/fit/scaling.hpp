// Standardised columns: a fit in the coordinates (x - mean) / deviation and y - mean.
#pragma once

#include <vector>

#include "device.hpp"
#include "fit/pivoted_qr.hpp"

namespace gdcore {

// Mean (d), 1 / deviation (d; 0 of a constant column), mean of y (t): one array, so that states
// and problems can share it. Without an intercept the means are 0 and the deviation is the root
// mean square.
template <class T>
void find_scaling(const Moments& moments, bool fit_intercept, double* scaling);

// The second moments of the standardised columns, as pairs: what is lost of them is what the data
// has lost.
void standardize(Moments& moments, const double* scaling);

// Parameters (d + intercept, t) of the standardised columns from those of the data, and back. The
// intercept is found with the weights as rounded, so that they predict together.
template <class T>
void to_scaled(const double* scaling, int64_t d, int64_t t, bool fit_intercept, T* params);
template <class T>
void from_scaled(const double* scaling, int64_t d, int64_t t, bool fit_intercept, T* params);

}  // namespace gdcore
