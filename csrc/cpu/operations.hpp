// The CPU's operations, one file each beside this one.
#pragma once

#include "device.hpp"
#include "quadratic.hpp"

namespace gdcore::cpu {

template <class T>
void matmul(const MatmulArgs<T>& args);
template <class T>
void matvec(const MatmulArgs<T>& args);  // matmul with n = 1
template <class T>
void accurate(const AccurateArgs<T>& args);
template <class T>
void mse(const MseArgs<T>& args);
template <class T>
void linear(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, LinearSums& sums);
template <class T>
void linear_each(int64_t count, const LossArgs<T>* args);
template <class T>
void moments(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, Moments& moments);
template <class T>
void moments_each(int64_t count, const ProblemRows<T>* problems, Moments* moments);
template <class T>
void quadratics_each(int64_t count, const ProblemRows<T>* problems, bool fit_intercept,
                     double* const* packed);
template <class T>
void descend_each(int64_t count, const DescentArgs<T>* descents);
template <class T>
double quadratic(const QuadraticArgs<T>& args, double* gradient);
template <class T>
void sgd(int64_t n, T* param, const T* grad, T* velocity, bool first, double lr,
         const SgdOptions& options);

}  // namespace gdcore::cpu
