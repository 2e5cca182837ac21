// Launches by a kernel's name and the type of its numbers.
#pragma once

#include <string>

#include "contract.hpp"
#include "cuda/driver.hpp"

namespace gdcore::cuda {

constexpr int threads_of_block = 256;

// What partials and copies of rows take at a time. A variable, so that checks need few rows.
inline int64_t wave_bytes = int64_t{128} << 20;

// `kernel` with the suffix of T's kernels.
template <class T>
std::string kernel_of(const char* kernel) {
  return std::string(kernel) + (sizeof(T) == 4 ? "_f32" : "_f64");
}
// One thread for each of `items`.
template <class T, class Params>
void launch_each(const char* kernel, int64_t items, const Params& params) {
  launch(kernel_of<T>(kernel).c_str(), ceil_div(items, threads_of_block), threads_of_block, 0,
         params);
}

// Launches any number of blocks, at most `most` at a time.
template <class Params>
void launch_all(const char* kernel, int64_t blocks, int threads, size_t shared_bytes, Params params,
                int64_t most = 0x7fffffff) {
  for (int64_t first = 0; first < blocks; first += most) {
    params.first_block = first;
    launch(kernel, blocks - first < most ? blocks - first : most, threads, shared_bytes, params);
  }
}

}  // namespace gdcore::cuda
