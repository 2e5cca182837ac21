// The GPU's operations, one file each beside this one, and its row of the device table.
//
// The kernels of matmul, mse, linear_each and sgd run in the innermost Scope, on the caller's
// stream, and nothing waits for them. The others find the device by the rows' addresses, work on
// gdcore's own stream, and have their results in the host's memory on return.
#pragma once

#include "device.hpp"

namespace gdcore::cuda {

template <class T>
void matmul(const MatmulArgs<T>& args);
template <class T>
void mse(const MseArgs<T>& args);
template <class T>
void sgd(int64_t n, T* param, const T* grad, T* velocity, bool first, double lr,
         const SgdOptions& options);
template <class T>
void linear(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, LinearSums& sums);
template <class T>
void linear_each(int64_t count, const LossArgs<T>* args);
template <class T>
void moments(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, Moments& moments);
template <class T>
void moments_each(int64_t count, const ProblemRows<T>* problems, Moments* moments);
template <class T>
void descend_each(int64_t count, const DescentArgs<T>* descents);
template <class T>
void fetch(const ProblemRows<T>& rows, T* to);

}  // namespace gdcore::cuda

namespace gdcore {

template <class T>
const Device<T>& cuda_device();

}  // namespace gdcore
