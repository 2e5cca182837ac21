#include "cuda/kernels/quadratic_descents.hpp"

using namespace gdcore::cuda;

#define GDCORE_DESCEND(name, T, P) \
  GDCORE_KERNEL(name, 128, 1, QuadraticDescents<T>, (descend_quadratics<T, P>(p)))

GDCORE_DESCEND(descend_quadratics_1_f32, float, 1)
GDCORE_DESCEND(descend_quadratics_2_f32, float, 2)
GDCORE_DESCEND(descend_quadratics_3_f32, float, 3)
GDCORE_DESCEND(descend_quadratics_4_f32, float, 4)
GDCORE_DESCEND(descend_quadratics_5_f32, float, 5)
GDCORE_DESCEND(descend_quadratics_6_f32, float, 6)
GDCORE_DESCEND(descend_quadratics_7_f32, float, 7)
GDCORE_DESCEND(descend_quadratics_8_f32, float, 8)
GDCORE_DESCEND(descend_quadratics_1_f64, double, 1)
GDCORE_DESCEND(descend_quadratics_2_f64, double, 2)
GDCORE_DESCEND(descend_quadratics_3_f64, double, 3)
GDCORE_DESCEND(descend_quadratics_4_f64, double, 4)
GDCORE_DESCEND(descend_quadratics_5_f64, double, 5)
GDCORE_DESCEND(descend_quadratics_6_f64, double, 6)

GDCORE_KERNEL(descend_wide_quadratics_f32, 64, 8, QuadraticDescents<float>,
              (descend_wide_quadratics<float>(p)))
GDCORE_KERNEL(descend_wide_quadratics_f64, 64, 8, QuadraticDescents<double>,
              (descend_wide_quadratics<double>(p)))
