#include "cuda/kernels/matmul_small.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(matmul_small_f32, 128, 4, SmallMatmulParams<float>, matmul_small(p))
GDCORE_KERNEL(matmul_small_f64, 128, 4, SmallMatmulParams<double>, matmul_small(p))
