// What kernels need of CUDA C++, the same for nvcc and for the emulation on a CPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hd.hpp"

#if defined(__CUDACC__)
#define GDCORE_DEVICE __device__ __forceinline__
#define GDCORE_UNROLL _Pragma("unroll")
#define GDCORE_MAY_ALIAS
#else
#include "emulation.hpp"
#define GDCORE_DEVICE inline
#define GDCORE_UNROLL
#define GDCORE_MAY_ALIAS [[gnu::may_alias]]
#endif

namespace gdcore::cuda {

// One rounding each. Nothing else is ever contracted: nvcc -fmad=false, g++ -ffp-contract=off.
GDCORE_DEVICE float fma(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}
GDCORE_DEVICE double fma(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}
GDCORE_DEVICE double square_root(double x) {
#if defined(__CUDA_ARCH__)
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}

// N numbers that one instruction loads or stores.
template <class T, int N>
struct GDCORE_MAY_ALIAS alignas(sizeof(T) * N) Pack {
  T v[N];
};

// The block's dynamic shared memory, of which the kernel uses `bytes`.
GDCORE_DEVICE unsigned char* shared_memory([[maybe_unused]] size_t bytes) {
#if defined(__CUDACC__)
  extern __shared__ __align__(16) unsigned char gdcore_shared[];
  return gdcore_shared;
#else
  return static_cast<unsigned char*>(emulation::shared_memory(bytes));
#endif
}

}  // namespace gdcore::cuda

// A kernel takes one struct, `p`, and runs `call`. Its name is what the host launches.
#if defined(__CUDACC__)
#define GDCORE_KERNEL(name, threads, blocks_per_multiprocessor, Params, call)      \
  extern "C" __global__ void __launch_bounds__(threads, blocks_per_multiprocessor) \
      name(const __grid_constant__ Params p) {                                     \
    call;                                                                          \
  }
#else
#define GDCORE_KERNEL(name, threads, blocks_per_multiprocessor, Params, call) \
  static const emulation::Kernel name##_kernel{                               \
      #name, threads, sizeof(Params), +[](const void* params) {               \
        const Params& p = *static_cast<const Params*>(params);                \
        call;                                                                 \
      }};
#endif
