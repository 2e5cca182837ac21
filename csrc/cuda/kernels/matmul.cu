#include "cuda/kernels/matmul.hpp"

using namespace gdcore::cuda;

// The tiles of csrc/cuda/matmul.cpp.
template <class T, int... sizes>
using Tile = FmaTile<T, sizes...>;

// Blocks of a multiprocessor by the packed and by the strided kernel, then the tile.
#define GDCORE_TILE(name, suffix, T, packed_blocks, strided_blocks, ...)                           \
  GDCORE_KERNEL(matmul_packed_##name##_##suffix, (Tile<T, __VA_ARGS__>::threads), packed_blocks,   \
                MatmulParams<T>, (matmul<Tile<T, __VA_ARGS__>, 16 / sizeof(T)>(p)))                \
  GDCORE_KERNEL(matmul_strided_##name##_##suffix, (Tile<T, __VA_ARGS__>::threads), strided_blocks, \
                MatmulParams<T>, (matmul<Tile<T, __VA_ARGS__>, 1>(p)))

GDCORE_TILE(128x128, f32, float, 1, 1, 128, 128, 16, 8, 8, 8)
GDCORE_TILE(64x64, f32, float, 4, 3, 64, 64, 16, 8, 4, 8)
GDCORE_TILE(32x32, f32, float, 8, 6, 32, 32, 16, 4, 4, 8)
GDCORE_TILE(128x8, f32, float, 5, 4, 128, 8, 16, 4, 2, 4)
GDCORE_TILE(64x128, f64, double, 1, 1, 64, 128, 8, 4, 8, 8)
GDCORE_TILE(32x32, f64, double, 6, 6, 32, 32, 8, 4, 4, 8)
GDCORE_TILE(128x8, f64, double, 4, 4, 128, 8, 8, 4, 2, 4)
