#include "cuda/kernels/matvec.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(matvec_by_quads_f32, 128, 4, MatvecParams<float>, matvec_by_quads(p))
GDCORE_KERNEL(matvec_by_quads_f64, 128, 4, MatvecParams<double>, matvec_by_quads(p))
GDCORE_KERNEL(matvec_by_rows_f32, 128, 4, MatvecParams<float>, matvec_by_rows(p))
GDCORE_KERNEL(matvec_by_rows_f64, 128, 4, MatvecParams<double>, matvec_by_rows(p))
