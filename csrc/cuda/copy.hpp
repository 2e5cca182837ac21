// Copies by kernels, in the order of the innermost Scope's stream: a graph can replay them.
#pragma once

#include <cstdint>

#include "views.hpp"

namespace gdcore::cuda {

// Between arrays of one shape and any strides.
template <class T>
void copy(const Elements<const T>& from, const Elements<T>& to);
// Writes one number.
template <class T>
void set(T* to, T value);
// Writes so many words of the host's memory, which has been read on return. A graph keeps them,
// while it would read the source of copy_to_device at each launch.
void write(uint64_t* to, const uint64_t* values, int64_t size);

}  // namespace gdcore::cuda
