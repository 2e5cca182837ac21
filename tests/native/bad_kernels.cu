// Kernels that machine_code.py has to refuse, each named for the rule that it breaks.
#include "cuda/kernels/language.hpp"

struct Params {
  float* x;
  double* y;
  int n;
};

namespace {
__device__ __forceinline__ void bare_asm(float* x) { asm("add.f32 %0, %0, %0;" : "+f"(x[0])); }
__device__ __forceinline__ void flush_asm(float* x) {
  asm("fma.rn.ftz.f32 %0, %0, %0, %0;" : "+f"(x[0]));
}
__device__ __forceinline__ void spill(float* x, int n) {
  float lanes[64];
  for (int i = 0; i < 64; ++i) lanes[i] = x[i * n];
  for (int i = 0; i < n; ++i) lanes[(i * n) & 63] += x[i];
  for (int i = 0; i < 64; ++i) x[i] = lanes[i];
}
__device__ __forceinline__ void half_tensor(float* x) {
  const unsigned* a = reinterpret_cast<const unsigned*>(x);
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3])
      : "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]), "r"(a[8]), "r"(a[9]));
}
}  // namespace

GDCORE_KERNEL(open_rounding, 32, 1, Params, bare_asm(p.x))
GDCORE_KERNEL(flush, 32, 1, Params, flush_asm(p.x))
GDCORE_KERNEL(towards_zero, 32, 1, Params, p.y[0] = __dadd_rz(p.y[0], p.y[1]))
GDCORE_KERNEL(approximation, 32, 1, Params, p.x[0] = __expf(p.x[0]))
GDCORE_KERNEL(fast_division, 32, 1, Params, p.x[0] = __fdividef(p.x[0], p.x[1]))
GDCORE_KERNEL(atomics, 32, 1, Params, atomicAdd(p.y, 1.0))
GDCORE_KERNEL(spilled, 32, 1, Params, spill(p.x, p.n))
GDCORE_KERNEL(tensor, 32, 1, Params, half_tensor(p.x))

// And what it has to accept: IEEE division and root, integer division.
GDCORE_KERNEL(divided, 32, 1, Params, p.x[p.n / p.n] = p.x[0] / p.x[1])
GDCORE_KERNEL(rooted, 32, 1, Params, p.y[0] = gdcore::cuda::square_root(p.y[0]) / p.y[1])
