#include "cuda/kernels/gather.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(gather_f32, 256, 4, GatherParams<float>, (gather<float>(p)))
GDCORE_KERNEL(gather_f64, 256, 4, GatherParams<double>, (gather<double>(p)))
