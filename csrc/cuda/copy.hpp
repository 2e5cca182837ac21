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
// Writes `size` words from the host's memory, which may change on return. A captured graph keeps
// the words; after copy_to_device it would read the source again at each launch.
void write(uint64_t* to, const uint64_t* values, int64_t size);

}  // namespace gdcore::cuda
