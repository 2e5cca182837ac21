// Second moments of whole segments of rows, as many at a time as a vector of doubles has lanes.
#pragma once

#include "cpu/operations.hpp"

namespace gdcore::cpu {

// How many of the segments, from the first on, moments_in_lanes should sum.
template <class T>
int64_t segments_in_lanes(const LinearArgs<T>& args, int64_t segment0, int64_t segment1);

template <class T>
void moments_in_lanes(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, Moments& out);

}  // namespace gdcore::cpu
