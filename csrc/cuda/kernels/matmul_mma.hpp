// float64 products by tensor cores. mma.m8n8k4.f64 adds its four terms in the order of k, one fma
// each, as the contract asks. NVIDIA does not promise that: the host runs mma_differs on a device
// before it relies on it.
#pragma once

#include "cuda/kernels/matmul.hpp"

namespace gdcore::cuda {

// c (8,8) += a (8,4) @ b (4,8) by a warp. Thread l holds a[l/4][l%4], b[l%4][l/4] and
// c[l/4][2*(l%4)] with its right neighbour. Devices before sm_80 have no such instruction.
GDCORE_DEVICE void mma(double& c0, double& c1, double a, double b) {
#if !defined(__CUDACC__)
  emulation::mma_m8n8k4(c0, c1, a, b);
#elif __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
      : "+d"(c0), "+d"(c1)
      : "d"(a), "d"(b));
#else
  c0 = c1 = __longlong_as_double(0x7ff8000000000000);  // seen by mma_differs
#endif
}

// A warp computes WM x WN elements, a thread 2 neighbours in every 8 x 8.
template <int BM_, int BN_, int BK_, int WM, int WN>
struct MmaTile {
  using T = double;
  static constexpr int BM = BM_, BN = BN_, BK = BK_, R = WM / 8, C = WN / 4;
  static constexpr int threads = (BM / WM) * (BN / WN) * 32;
  static constexpr int column_pack = 2;

  int row0, column0, lane;

  GDCORE_DEVICE explicit MmaTile(int thread)
      : row0(thread / 32 / (BN / WN) * WM),
        column0(thread / 32 % (BN / WN) * WN),
        lane(thread % 32) {}
  GDCORE_DEVICE int row(int i) const { return row0 + i * 8 + lane / 4; }
  GDCORE_DEVICE int column(int j) const { return column0 + j / 2 * 8 + lane % 4 * 2 + j % 2; }

  GDCORE_DEVICE void add_four(T (&sums)[R][C], const T* a, const T* b) const {
    T x[R], y[C / 2];
    GDCORE_UNROLL
    for (int i = 0; i < R; ++i) x[i] = a[lane % 4 * pitch<BM> + row(i)];
    GDCORE_UNROLL
    for (int j = 0; j < C / 2; ++j) y[j] = b[lane % 4 * pitch<BN> + column0 + j * 8 + lane / 4];
    GDCORE_UNROLL
    for (int i = 0; i < R; ++i) {
      GDCORE_UNROLL
      for (int j = 0; j < C / 2; ++j) mma(sums[i][2 * j], sums[i][2 * j + 1], x[i], y[j]);
    }
  }
  GDCORE_DEVICE void add_tile(T (&sums)[R][C], const T* a, const T* b) const {
    GDCORE_UNROLL
    for (int term = 0; term < BK; term += 4)
      add_four(sums, a + term * pitch<BM>, b + term * pitch<BN>);
  }
  GDCORE_DEVICE void add_terms(T (&sums)[R][C], const T* a, const T* b, int terms) const {
    int term = 0;
#pragma unroll 1
    for (; term + 4 <= terms; term += 4) add_four(sums, a + term * pitch<BM>, b + term * pitch<BN>);
#pragma unroll 1
    for (; term < terms; ++term) {
      GDCORE_UNROLL
      for (int i = 0; i < R; ++i) {
        GDCORE_UNROLL
        for (int j = 0; j < C; ++j)
          sums[i][j] =
              fma(a[term * pitch<BM> + row(i)], b[term * pitch<BN> + column(j)], sums[i][j]);
      }
    }
  }
};

// differs[warp] becomes 1 where a warp's products by mma are not those of chains of fma.
struct MmaTestParams {
  uint32_t* differs;
};

GDCORE_DEVICE uint64_t bits_of(double x) {
  union {
    double number;
    uint64_t bits;
  } both{x};
  return both.bits;
}

// A number of many sizes, or a special one.
GDCORE_DEVICE double any_number(uint64_t seed) {
  uint64_t x = (seed + 1) * 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  x ^= x >> 31;
  const uint64_t sign = x & uint64_t{1} << 63, fraction = x & 0x000fffffffffffffu;
  const uint64_t kind = x >> 52 & 63;
  union {
    uint64_t bits;
    double number;
  } result;
  if (kind == 0)
    result.bits = sign;  // a zero
  else if (kind == 1)
    result.bits = sign | fraction;  // a subnormal number
  else if (kind == 2 && (x & 15) == 0)
    result.bits = sign | uint64_t{0x7ff} << 52;  // an infinity
  else
    result.bits = sign | (1023 - 16 + kind / 2) << 52 | fraction;
  return result.number;
}

GDCORE_DEVICE void mma_differs(const MmaTestParams& p) {
  constexpr int terms = 16;
  const uint64_t warp = static_cast<uint64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  const unsigned lane = threadIdx.x % 32;
  const uint64_t seed = warp * 4096;
  const auto a = [&](unsigned row, unsigned term) { return any_number(seed + row * 64 + term); };
  const auto b = [&](unsigned term, unsigned column) {
    return any_number(seed + 2048 + column * 64 + term);
  };
  double sums[2] = {0, 0}, chains[2] = {0, 0};
  for (unsigned term = 0; term < terms; term += 4)
    mma(sums[0], sums[1], a(lane / 4, term + lane % 4), b(term + lane % 4, lane / 4));
  bool differs = false;
  GDCORE_UNROLL
  for (unsigned v = 0; v < 2; ++v) {
    for (unsigned term = 0; term < terms; ++term)
      chains[v] = fma(a(lane / 4, term), b(term, lane % 4 * 2 + v), chains[v]);
    const bool both_nan = sums[v] != sums[v] && chains[v] != chains[v];
    differs = differs || !(both_nan || bits_of(sums[v]) == bits_of(chains[v]));
  }
  uint32_t any = differs;
  GDCORE_UNROLL
  for (int l = 0; l < 5; ++l) any |= __shfl_xor_sync(0xffffffffu, any, 1 << l);
  if (lane == 0) p.differs[warp] = any;
}

}  // namespace gdcore::cuda
