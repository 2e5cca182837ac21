#include "group_sums.hpp"
#include "kernels.hpp"

namespace gdcore {
GDCORE_TABLE(_f32, float, probe_read, probe_write, probe_copy, group_sums)
}  // namespace gdcore
