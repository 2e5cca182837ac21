// The reference loops that are no operations of a device.
#pragma once

#include "device.hpp"
#include "quadratic.hpp"

namespace gdcore::reference {

template <class T>
void accurate(const AccurateArgs<T>& args);
template <class T>
double quadratic(const QuadraticArgs<T>& args, double* gradient);

// See host.hpp.
void add_multiples(int64_t rows, int64_t count, const double* x, const double* factors, double* y,
                   int64_t step);
void add_dots(int64_t rows, int64_t count, const double* x, const double* y, int64_t step,
              double* sums);

}  // namespace gdcore::reference
