// Copies of arrays within a device, by a kernel in the order of the innermost Scope's stream.
#pragma once

#include "views.hpp"

namespace gdcore::cuda {

// Between arrays of one shape and any strides.
template <class T>
void copy(const Elements<const T>& from, const Elements<T>& to);
// Writes one number. The host's memory is not read, so that a graph can replay it.
template <class T>
void set(T* to, T value);

}  // namespace gdcore::cuda
