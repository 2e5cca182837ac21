// Kernels that the tests of the driver launch; no file of kernels holds them.
#include "cuda/kernels/language.hpp"
#include "test_params.hpp"

using namespace gdcore::cuda;

namespace {

GDCORE_DEVICE void add(const AddParams& p) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < p.n) p.out[i] = p.in[i] + p.summand;
}

// Each thread reads what another one has written. Without the barrier that is a race.
template <bool barrier>
GDCORE_DEVICE void reverse(const AddParams& p) {
  auto* const shared = reinterpret_cast<float*>(shared_memory(blockDim.x * sizeof(float)));
  shared[threadIdx.x] = p.in[threadIdx.x];
  if (barrier) __syncthreads();
  p.out[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

GDCORE_DEVICE void stick(const AddParams&) {
  if (threadIdx.x == 0) __syncthreads();
}

}  // namespace

GDCORE_KERNEL(test_add, 256, 1, AddParams, add(p))
GDCORE_KERNEL(test_reverse, 256, 1, AddParams, reverse<true>(p))
GDCORE_KERNEL(test_race, 256, 1, AddParams, reverse<false>(p))
GDCORE_KERNEL(test_stuck, 256, 1, AddParams, stick(p))
