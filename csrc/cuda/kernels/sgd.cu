#include "cuda/kernels/sgd.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(sgd_f32, 256, 4, SgdParams<float>, sgd(p))
GDCORE_KERNEL(sgd_f64, 256, 4, SgdParams<double>, sgd(p))
