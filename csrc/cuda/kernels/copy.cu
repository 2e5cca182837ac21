#include "cuda/kernels/copy.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(copy_f32, 256, 4, CopyParams<float>, copy(p))
GDCORE_KERNEL(copy_f64, 256, 4, CopyParams<double>, copy(p))
GDCORE_KERNEL(write_words, 256, 4, WriteParams, write(p))
