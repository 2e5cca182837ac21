// The batch dimensions of a product, merged for kernels.
#pragma once

#include "cuda/kernels/matmul_params.hpp"
#include "device.hpp"

namespace gdcore::cuda {

// Dimensions of several arrays with as few dimensions as their strides allow; those of one element
// are left out. The first stays the slowest.
template <size_t arrays>
struct Merged {
  int64_t elements = 1;
  Dims shape, strides[arrays];

  void append(int64_t size, const int64_t (&steps)[arrays]) {
    elements *= size;
    if (size == 1) return;
    bool joins = !shape.empty();
    for (size_t i = 0; joins && i < arrays; ++i) joins = strides[i].back() == size * steps[i];
    if (joins)
      shape.back() *= size;
    else
      shape.push_back(size);
    for (size_t i = 0; i < arrays; ++i) {
      if (joins)
        strides[i].back() = steps[i];
      else
        strides[i].push_back(steps[i]);
    }
  }
};

template <class T>
Merged<3> merged_batch(const MatmulArgs<T>& args) {
  Merged<3> batch;
  for (size_t dim = 0; dim < args.batch.size(); ++dim)
    batch.append(args.batch[dim], {args.a_batch[dim], args.b_batch[dim], args.c_batch[dim]});
  return batch;
}

// The batch has at most BatchDims::most dimensions.
inline BatchDims batch_dims(const Merged<3>& batch) {
  BatchDims dims{batch.elements, static_cast<int>(batch.shape.size()), {}, {}, {}, {}};
  for (size_t i = 0; i < batch.shape.size(); ++i) {
    dims.shape[i] = batch.shape[i];
    dims.a[i] = batch.strides[0][i];
    dims.b[i] = batch.strides[1][i];
    dims.c[i] = batch.strides[2][i];
  }
  return dims;
}

}  // namespace gdcore::cuda
