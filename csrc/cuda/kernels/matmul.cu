#include "cuda/kernels/matmul.hpp"

using namespace gdcore::cuda;

// The tiles of csrc/cuda/matmul.cpp.
template <class T, int... sizes>
using Tile = FmaTile<T, sizes...>;

#define GDCORE_TILE(name, suffix, T, blocks, P, ...)                                       \
  GDCORE_KERNEL(matmul_packed_##name##_##suffix, (Tile<T, __VA_ARGS__>::threads), blocks,  \
                MatmulParams<T>, (matmul<Tile<T, __VA_ARGS__>, P>(p)))                     \
  GDCORE_KERNEL(matmul_strided_##name##_##suffix, (Tile<T, __VA_ARGS__>::threads), blocks, \
                MatmulParams<T>, (matmul<Tile<T, __VA_ARGS__>, 1>(p)))

GDCORE_TILE(128x256, f32, float, 1, 4, 128, 256, 8, 8, 16, 8)
GDCORE_TILE(128x128, f32, float, 2, 4, 128, 128, 8, 8, 8, 8)
GDCORE_TILE(64x64, f32, float, 4, 4, 64, 64, 16, 8, 4, 8)
GDCORE_TILE(32x32, f32, float, 8, 4, 32, 32, 16, 4, 4, 8)
GDCORE_TILE(128x8, f32, float, 6, 4, 128, 8, 16, 4, 2, 4)
GDCORE_TILE(64x128, f64, double, 2, 2, 64, 128, 8, 4, 8, 8)
GDCORE_TILE(32x32, f64, double, 8, 2, 32, 32, 8, 4, 4, 8)
GDCORE_TILE(128x8, f64, double, 6, 2, 128, 8, 8, 4, 2, 4)
