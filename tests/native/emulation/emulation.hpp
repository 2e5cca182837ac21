// CUDA's threads on one CPU thread: each is a fiber that runs until a barrier or shuffle.
// For tests: slow, exact, and stricter than a GPU (see Options).
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

namespace emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

struct Options {
  int order = 0;        // in which threads run between barriers: 0 forward, 1 backward, else shuffled by this seed
  bool poison = true;   // shared memory starts as NaNs
};
extern Options options;

// What is the same for all threads of the block that runs, and the thread that runs.
extern Dim3 grid_dim, block_dim, block_idx;
extern Dim3 thread_idx;

void barrier();                                             // of the block
uint64_t exchange(unsigned mask, uint64_t value, int from);  // a shuffle: value of lane `from`
void* shared_memory(size_t bytes);

struct Kernel {  // threads: the most of a block
  Kernel(const char* name, int threads, size_t params_bytes, void (*run)(const void*));
};
// 0, or an error as a sentence.
const char* launch(const std::string& name, Dim3 grid, Dim3 block, size_t shared_bytes,
                   const void* params);

template <class T>
T shuffle(unsigned mask, T value, int from) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, from);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
inline int lane() {
  return static_cast<int>((thread_idx.x + block_dim.x * (thread_idx.y + block_dim.y * thread_idx.z)) % 32);
}

}  // namespace emulation

#define threadIdx emulation::thread_idx
#define blockIdx emulation::block_idx
#define blockDim emulation::block_dim
#define gridDim emulation::grid_dim

inline void __syncthreads() { emulation::barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulation::exchange(mask, 0, emulation::lane()); }
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const int lane = emulation::lane();
  return emulation::shuffle(mask, value, (lane & ~(width - 1)) + (from & (width - 1)));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, int width = 32) {
  const int lane = emulation::lane(), to = (lane & (width - 1)) + by;
  return emulation::shuffle(mask, value, to < width ? lane + by : lane);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int = 32) {
  return emulation::shuffle(mask, value, emulation::lane() ^ with);
}
namespace emulation {

// mma.m8n8k4.f64, see csrc/cuda/kernels/matmul_mma.hpp. EMULATION_MMA=backward: a device that adds
// the terms in another order.
inline void mma_m8n8k4(double& c0, double& c1, double a, double b) {
  static const char* const order = std::getenv("EMULATION_MMA");
  const bool backward = order && std::string(order) == "backward";
  struct Operands {
    double a[8][4], b[4][8];
  };
  static Operands of_warps[32];
  Operands& x = of_warps[thread_idx.x / 32];  // blocks have one dimension
  const int row = lane() / 4, column = lane() % 4;
  x.a[row][column] = a;
  x.b[column][row] = b;
  exchange(0xffffffffu, 0, lane());
  for (int i = 0; i < 4; ++i) {
    const int k = backward ? 3 - i : i;
    c0 = __builtin_fma(x.a[row][k], x.b[k][column * 2], c0);
    c1 = __builtin_fma(x.a[row][k], x.b[k][column * 2 + 1], c1);
  }
  exchange(0xffffffffu, 0, lane());
}

}  // namespace emulation

// Atomics are not here: no kernel may use one.
