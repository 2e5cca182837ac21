#include "cuda/kernels/mse.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(mse_f32, 128, 8, MseParams<float>, mse(p))
GDCORE_KERNEL(mse_f64, 128, 6, MseParams<double>, mse(p))
GDCORE_KERNEL(strided_mse_f32, 128, 8, StridedMseParams<float>, strided_mse(p))
GDCORE_KERNEL(strided_mse_f64, 128, 8, StridedMseParams<double>, strided_mse(p))
GDCORE_KERNEL(mse_close_f32, 32, 1, MseCloseParams<float>, mse_close(p))
GDCORE_KERNEL(mse_close_f64, 32, 1, MseCloseParams<double>, mse_close(p))
