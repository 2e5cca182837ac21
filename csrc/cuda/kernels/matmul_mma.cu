#include "cuda/kernels/matmul_mma.hpp"

using namespace gdcore::cuda;

using Large = MmaTile<128, 128, 8, 64, 32>;
using Small = MmaTile<64, 64, 16, 32, 32>;

GDCORE_KERNEL(matmul_mma_packed_128x128_f64, Large::threads, 1, MatmulParams<double>,
              (matmul<Large, 2>(p)))
GDCORE_KERNEL(matmul_mma_strided_128x128_f64, Large::threads, 1, MatmulParams<double>,
              (matmul<Large, 1>(p)))
GDCORE_KERNEL(matmul_mma_packed_64x64_f64, Small::threads, 2, MatmulParams<double>,
              (matmul<Small, 2>(p)))
GDCORE_KERNEL(matmul_mma_strided_64x64_f64, Small::threads, 2, MatmulParams<double>,
              (matmul<Small, 1>(p)))
GDCORE_KERNEL(mma_differs_f64, 128, 1, MmaTestParams, mma_differs(p))
