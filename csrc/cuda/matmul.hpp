// How a product is computed on the device: what the host chooses by its shape. Bits never depend
// on it.
#pragma once

#include <initializer_list>

#include "device.hpp"

namespace gdcore::cuda {

enum class MatmulRoute { any, small, tiles };

// A choice that is not made is left to matmul.
struct MatmulChoice {
  MatmulRoute route = MatmulRoute::any;
  int tile = -1;                     // of matmul_tiles
  bool strided = false;              // the loader for any strides
  int64_t part = 0;                  // terms of a part of k: 512 or 262144
  int64_t most_blocks = 0x7fffffff;  // of a launch
};

// A tile: a block computes bm x bn elements and takes bk terms at a time.
struct MatmulTile {
  const char *packed, *strided;  // kernels: 16 bytes at once, and any strides
  int bm, bn, bk, threads;
  int resident;  // blocks of a multiprocessor
  double speed;  // of a busy multiprocessor, in multiples of a float64 fma unit's
  bool tensor_cores;
};
template <class T>
const std::initializer_list<MatmulTile>& matmul_tiles();

template <class T>
void matmul(const MatmulArgs<T>& args, const MatmulChoice& choice);

// Whether the tensor cores of the current device add float64 products in the contract's order.
// Waits for the device.
bool test_tensor_cores();
// The same, tested at first use on a stream of gdcore's own, also while another is captured.
bool tensor_cores_follow_chain();

}  // namespace gdcore::cuda
