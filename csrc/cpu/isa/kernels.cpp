// Every kernel of one instruction set, compiled once for each by CMake. Freestanding: anonymous
// namespaces, no templates of the standard library, no dynamic initialisers, so that no code built
// for a newer CPU is ever shared.
#include "columns.hpp"
#include "lanes.hpp"
#include "linear.hpp"
#include "matmul.hpp"
#include "moments.hpp"
#include "mse.hpp"
#include "pack.hpp"
#include "probe.hpp"
#include "sgd.hpp"
#include "table.hpp"

#define GDCORE_STRING_(x) #x
#define GDCORE_STRING(x) GDCORE_STRING_(x)
#define GDCORE_JOIN_(a, b) a##b
#define GDCORE_JOIN(a, b) GDCORE_JOIN_(a, b)

namespace gdcore {

#define GDCORE_TABLE(suffix, T, ...)                                                              \
  extern const IsaTable<T> GDCORE_JOIN(GDCORE_JOIN(isa_, GDCORE_ISA), suffix);                    \
  const IsaTable<T> GDCORE_JOIN(GDCORE_JOIN(isa_, GDCORE_ISA), suffix){GDCORE_STRING(GDCORE_ISA), \
                                                                       tile_shape<T>,             \
                                                                       run_tiles<T>,              \
                                                                       pack<T>,                   \
                                                                       few_columns<T>,            \
                                                                       run_columns<T>,            \
                                                                       dot_rows<T>,               \
                                                                       dot_columns<T>,            \
                                                                       linear_rows<T>,            \
                                                                       linear_block<T>,           \
                                                                       residuals<T>,              \
                                                                       mse<T>,                    \
                                                                       sgd<T>,                    \
                                                                       widen<T>,                  \
                                                                       products<T>,               \
                                                                       quadratic<T>,              \
                                                                       quadratic_lanes<T>,        \
                                                                       CHAINS * W<T>,             \
                                                                       probe_fma<T>,              \
                                                                       __VA_ARGS__};

GDCORE_TABLE(_f32, float, probe_read, probe_write, probe_copy)
GDCORE_TABLE(_f64, double, )

}  // namespace gdcore
