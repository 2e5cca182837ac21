#include "cuda/kernels/targets.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(target_slopes_f32, 256, 4, TargetsParams<float>, (target_slopes<float>(p)))
GDCORE_KERNEL(target_slopes_f64, 256, 4, TargetsParams<double>, (target_slopes<double>(p)))
GDCORE_KERNEL(target_sums_f32, 256, 4, TargetsParams<float>, (target_sums<float>(p)))
GDCORE_KERNEL(target_sums_f64, 256, 4, TargetsParams<double>, (target_sums<double>(p)))
