// The table of every kernel of one instruction set, for kernels_f32.cpp and kernels_f64.cpp: two
// files, so that two processors can compile them. CMake compiles both once for each instruction
// set. Freestanding: anonymous namespaces, no templates of the standard library, no dynamic
// initialisers, so that no code built for a newer CPU is ever shared.
#pragma once

#include "accurate.hpp"
#include "columns.hpp"
#include "linear.hpp"
#include "matmul.hpp"
#include "moments.hpp"
#include "mse.hpp"
#include "pack.hpp"
#include "probe.hpp"
#include "sgd.hpp"
#include "small_fits.hpp"
#include "table.hpp"

#define GDCORE_STRING_(x) #x
#define GDCORE_STRING(x) GDCORE_STRING_(x)
#define GDCORE_JOIN_(a, b) a##b
#define GDCORE_JOIN(a, b) GDCORE_JOIN_(a, b)

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
                                                                       add_sums<T>,               \
                                                                       accurate<T>,               \
                                                                       quadratic<T>,              \
                                                                       descend_lanes<T>,          \
                                                                       moments_lanes<T>,          \
                                                                       CHAINS * W<T>,             \
                                                                       probe_fma<T>,              \
                                                                       __VA_ARGS__};
