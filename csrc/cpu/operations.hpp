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
void linear(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, LinearSums& sums);
template <class T>
void linear_each(int64_t count, const LossArgs<T>* args);
template <class T>
void moments(const LinearArgs<T>& args, int64_t chunk0, int64_t chunk1, Moments& moments);
template <class T>
void moments_each(int64_t count, const ProblemRows<T>* problems, Moments* moments);
template <class T>
void descend_each(int64_t count, const DescentArgs<T>* descents);
template <class T>
double quadratic(const QuadraticArgs<T>& args, double* gradient);
template <class T>
void sgd(int64_t n, T* param, const T* grad, T* velocity, bool first, double lr,
         const SgdOptions& options);

// How often a product over k terms is cut into parts that are cut again: see part_of.
template <class T>
constexpr int64_t levels_of_parts(int64_t k) {
  int64_t levels = 0;
  for (; k > chain_terms<T>; k = part_of<T>(k)) ++levels;
  return levels;
}

// c (m,n) = a (m,k) @ b (k,n) on the calling thread, each element one chain over k whatever n is.
// The columns of c are contiguous. `packing` has packing_size<T>(m, n, k) elements.
template <class T>
int64_t packing_size(int64_t m, int64_t n, int64_t k);
template <class T>
void gemm(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Matrix<T> c,
          T* packing);

}  // namespace gdcore::cpu
