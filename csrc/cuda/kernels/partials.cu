#include "cuda/kernels/partials.hpp"

using namespace gdcore::cuda;

GDCORE_KERNEL(add_partials_f32, 128, 1, PartialsParams<float>, add_partials(p))
GDCORE_KERNEL(add_partials_f64, 128, 1, PartialsParams<double>, add_partials(p))
GDCORE_KERNEL(add_few_partials_f32, 32, 1, PartialsParams<float>, add_few_partials(p))
GDCORE_KERNEL(add_few_partials_f64, 32, 1, PartialsParams<double>, add_few_partials(p))
