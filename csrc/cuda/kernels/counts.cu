#include "cuda/kernels/counts.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(count_nonzero_f32, 256, 4, CountParams<float>, (count_nonzero<float>(p)))
GDCORE_KERNEL(count_nonzero_f64, 256, 4, CountParams<double>, (count_nonzero<double>(p)))
