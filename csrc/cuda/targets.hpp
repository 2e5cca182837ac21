// Sums over the rows of linear models with several targets: products of matrices, see matmul.cpp.
#pragma once

#include "cuda/device_rows.hpp"
#include "device.hpp"

namespace gdcore::cuda {

// As linear; in the innermost Scope.
template <class T>
void add_targets(const LinearArgs<T>& args, const Scaling& scaling, int64_t segment0,
                 int64_t segment1, LinearSums& sums);
// As linear_each, for problems that differ in where their arrays lie alone.
template <class T>
void run_targets(int64_t count, const LossArgs<T>* args, const Scaling& scaling);

}  // namespace gdcore::cuda
