// CUDA's threads on one CPU thread, as kernels/language.hpp sees them: each is a fiber that runs
// until a barrier or a shuffle. For tests: slow, exact, and stricter than a GPU.
#pragma once

#include <cstdint>
#include <cstring>

namespace emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// The block that runs, and its thread that runs.
extern Dim3 grid_dim, block_dim, block_idx, thread_idx;

extern bool backward_mma;  // tensor cores add their terms in the wrong order

void barrier();  // of the block
// These wait for all lanes of the mask.
uint64_t exchange(unsigned mask, uint64_t value, int from);  // the value of lane `from`
unsigned ballot(unsigned mask, bool yes);                    // the lanes that say yes
// The block's dynamic shared memory, of which the kernel uses `bytes`.
void* shared_memory(size_t bytes);
// A rule was broken: prints it with block and thread, and the launch fails.
[[noreturn]] void fail(const char* what);

// A kernel registers itself: its name, the most threads of a block, the size of its parameters.
struct Kernel {
  Kernel(const char* name, int threads, size_t params_bytes, void (*run)(const void*));
};

inline int lane() {
  const Dim3 at = thread_idx;
  return static_cast<int>((at.x + block_dim.x * (at.y + block_dim.y * at.z)) % 32);
}

template <class T>
T shuffle(unsigned mask, T value, int from) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, from);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulation

#define threadIdx emulation::thread_idx
#define blockIdx emulation::block_idx
#define blockDim emulation::block_dim
#define gridDim emulation::grid_dim

inline void __syncthreads() { emulation::barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulation::ballot(mask, true); }

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const int first = emulation::lane() & ~(width - 1);
  return emulation::shuffle(mask, value, first + (from & (width - 1)));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = emulation::lane(), to = (lane & (width - 1)) - static_cast<int>(by);
  return emulation::shuffle(mask, value, to >= 0 ? lane - static_cast<int>(by) : lane);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = emulation::lane(), to = (lane & (width - 1)) + static_cast<int>(by);
  return emulation::shuffle(mask, value, to < width ? lane + static_cast<int>(by) : lane);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
  const int lane = emulation::lane(), to = lane ^ with;
  // Lanes of later groups of `width` cannot be read: CUDA returns the lane's own value.
  return emulation::shuffle(mask, value, to < (lane & ~(width - 1)) + width ? to : lane);
}

inline unsigned __ballot_sync(unsigned mask, bool yes) { return emulation::ballot(mask, yes); }
inline bool __any_sync(unsigned mask, bool yes) { return __ballot_sync(mask, yes) != 0; }
inline bool __all_sync(unsigned mask, bool yes) { return __ballot_sync(mask, yes) == mask; }

namespace emulation {

// mma.m8n8k4.f64, see csrc/cuda/kernels/matmul_mma.hpp.
inline void mma_m8n8k4(double& c0, double& c1, double a, double b) {
  struct Operands {
    double a[8][4], b[4][8];
  };
  static Operands of_warps[32];
  Operands& x = of_warps[thread_idx.x / 32];  // blocks have one dimension
  const int row = lane() / 4, column = lane() % 4;
  x.a[row][column] = a;
  x.b[column][row] = b;
  ballot(0xffffffffu, true);
  for (int i = 0; i < 4; ++i) {
    const int k = backward_mma ? 3 - i : i;
    c0 = __builtin_fma(x.a[row][k], x.b[k][column * 2], c0);
    c1 = __builtin_fma(x.a[row][k], x.b[k][column * 2 + 1], c1);
  }
  ballot(0xffffffffu, true);
}

}  // namespace emulation

// Atomics are not here: no kernel may use one.
