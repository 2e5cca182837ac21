// The reference loops that are no operations of a device.
#pragma once

#include "device.hpp"
#include "quadratic.hpp"

namespace gdcore::reference {

template <class T>
void accurate(const AccurateArgs<T>& args);
template <class T>
double quadratic(const QuadraticArgs<T>& args, double* gradient);

}  // namespace gdcore::reference
