// The limits of this machine, measured: what a kernel's figures are a percentage of.
#pragma once

#include <cstdint>

namespace gdcore {

using std::int64_t;

enum class Traffic { read, write, copy };

// Best rate over passes of 10 ms for `seconds`, on `threads` threads, under the chosen
// instruction set.

// Operations a second of fma alone, each counted as two.
template <class T>
double probe_fma(int threads, double seconds);

// Bytes a second, bytes read plus bytes written, over memory of `bytes` in all: a copy reads one
// half and writes the other. Writes go through the caches and past them in turn; the better counts.
double probe_bandwidth(Traffic traffic, int64_t bytes, int threads, double seconds);

}  // namespace gdcore
