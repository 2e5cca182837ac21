// What the kernels of copies take.
#pragma once

#include <cstdint>

namespace gdcore::cuda {

// Arrays of any strides, their dimensions merged.
template <class T>
struct CopyParams {
  static constexpr int most = 64;

  int64_t size;
  T* to;
  const T* from;  // null: `value` everywhere
  T value;
  int dims;
  int64_t shape[most], to_strides[most], from_strides[most];
};

// Values of the host, which travel with the launch.
struct WriteParams {
  static constexpr int most = 480;

  int64_t size;
  uint64_t* to;
  uint64_t values[most];
};

}  // namespace gdcore::cuda
