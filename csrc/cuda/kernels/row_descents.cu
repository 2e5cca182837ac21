#include "cuda/kernels/row_descents.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(descend_rows_f32, 256, 2, RowDescents<float>, (descend_rows<float>(p)))
GDCORE_KERNEL(descend_rows_f64, 256, 2, RowDescents<double>, (descend_rows<double>(p)))
