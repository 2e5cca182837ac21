#include "cuda/kernels/linear.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(linear_rows_f32, 256, 2, LinearParams<float>, (linear_rows<float>(p)))
GDCORE_KERNEL(linear_rows_f64, 256, 4, LinearParams<double>, (linear_rows<double>(p)))
GDCORE_KERNEL(linear_few_f32, 256, 2, LinearParams<float>, (linear_few<float>(p)))
GDCORE_KERNEL(linear_few_f64, 256, 2, LinearParams<double>, (linear_few<double>(p)))
GDCORE_KERNEL(linear_slopes_f32, 256, 4, LinearParams<float>, (linear_slopes<float>(p)))
GDCORE_KERNEL(linear_slopes_f64, 256, 4, LinearParams<double>, (linear_slopes<double>(p)))
GDCORE_KERNEL(linear_columns_f32, 256, 4, LinearParams<float>, (linear_columns<float>(p)))
GDCORE_KERNEL(linear_columns_f64, 256, 4, LinearParams<double>, (linear_columns<double>(p)))
