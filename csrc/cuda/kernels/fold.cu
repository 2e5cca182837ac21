#include "cuda/kernels/fold.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(fold_f32, 256, 2, FoldParams<float>, (fold<float>(p)))
GDCORE_KERNEL(fold_f64, 256, 2, FoldParams<double>, (fold<double>(p)))
using CloseFloat = CloseParams<float, float>;
using CloseDouble = CloseParams<double, double>;
using CloseFolded = CloseParams<float, double>;
GDCORE_KERNEL(close_f32, 256, 2, CloseFloat, (close<float, float>(p)))
GDCORE_KERNEL(close_f64, 256, 2, CloseDouble, (close<double, double>(p)))
GDCORE_KERNEL(close_folded_f32, 256, 2, CloseFolded, (close<float, double>(p)))
