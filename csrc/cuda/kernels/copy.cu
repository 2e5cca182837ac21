#include "cuda/kernels/copy.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(copy_f32, 256, 8, CopyParams<float>, copy(p))
GDCORE_KERNEL(copy_f64, 256, 8, CopyParams<double>, copy(p))
