#include "kernels.hpp"

namespace gdcore {
GDCORE_TABLE(_f64, double, )
}  // namespace gdcore
