// Sums in one chain.
#pragma once

#include "cuda/kernels/language.hpp"

namespace gdcore::cuda {

// sum + in[0] + in[stride] + ... in order. Loads come in batches, as the adds wait for each other.
template <class In>
GDCORE_DEVICE double add_in_order(double sum, const In* in, int64_t stride, int64_t count) {
  constexpr int batch = 32;
  int64_t c = 0;
  for (; c + batch <= count; c += batch) {
    In value[batch];
    GDCORE_UNROLL
    for (int k = 0; k < batch; ++k) value[k] = in[(c + k) * stride];
    GDCORE_UNROLL
    for (int k = 0; k < batch; ++k) sum += static_cast<double>(value[k]);
  }
  for (; c < count; ++c) sum += static_cast<double>(in[c * stride]);
  return sum;
}

}  // namespace gdcore::cuda
