// The table of every kernel of one instruction set, for kernels_f32.cpp and kernels_f64.cpp: two
// files, so that two processors can compile them. CMake compiles both once for each instruction
// set. Freestanding: anonymous namespaces, no templates of the standard library, no dynamic
// initialisers, so that no code built for a newer CPU is ever shared.
#pragma once

#include "accurate.hpp"
#include "columns.hpp"
#include "half_gradient.hpp"
#include "linear.hpp"
#include "matmul.hpp"
#include "moments.hpp"
#include "moments_lanes.hpp"
#include "mse.hpp"
#include "names.hpp"
#include "pack.hpp"
#include "probe.hpp"
#include "quiet_epochs.hpp"
#include "segments.hpp"
#include "sgd.hpp"
#include "small_fits.hpp"
#include "table.hpp"
#include "to_double.hpp"

#define GDCORE_TABLE(suffix, T, ...)                                           \
  extern const IsaTable<T> GDCORE_NAME(isa_, suffix);                          \
  extern const OtherLosses<T> GDCORE_NAME(losses_, suffix);                    \
  const IsaTable<T> GDCORE_NAME(isa_, suffix){GDCORE_STRING(GDCORE_ISA),       \
                                              tile_shape<T>,                   \
                                              run_tiles<T>,                    \
                                              pack<T>,                         \
                                              few_columns<T>,                  \
                                              run_columns<T>,                  \
                                              dot_rows<T>,                     \
                                              dot_columns<T>,                  \
                                              linear_kernels<T, SquaredError>, \
                                              &GDCORE_NAME(losses_, suffix),   \
                                              mse<T>,                          \
                                              sgd<T>,                          \
                                              to_double<T>,                    \
                                              products<T>,                     \
                                              W<double>,                       \
                                              most_segment_features<T>,        \
                                              segments<T>,                     \
                                              add_sums<T>,                     \
                                              accurate<T>,                     \
                                              quadratic<T>,                    \
                                              descend_lanes<T>,                \
                                              quiet_epochs<T>,                 \
                                              moments_lanes<T>,                \
                                              CHAINS * W<T>,                   \
                                              probe_fma<T>,                    \
                                              __VA_ARGS__};
