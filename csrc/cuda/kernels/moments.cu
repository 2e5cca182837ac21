#include "cuda/kernels/moments.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(moments_f32, 256, 2, MomentsParams<float>, (moments_segments<float, 4>(p)))
GDCORE_KERNEL(moments_f64, 256, 2, MomentsParams<double>, (moments_segments<double, 2>(p)))
GDCORE_KERNEL(fold_pairs_f64, 256, 2, FoldPairsParams, (fold_pairs(p)))
