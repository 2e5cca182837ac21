// Matrix products on the calling thread.
#pragma once

#include <algorithm>

#include "contract.hpp"
#include "views.hpp"

namespace gdcore::cpu {

// c (m,n) = a (m,k) @ b (k,n), n >= 2 or each element one chain all the same.
template <class T>
struct Product {
  int64_t m, n, k;
  Matrix<const T> a, b;
  Matrix<T> c;

  int64_t bytes() const { return (m * k + k * n + m * n) * static_cast<int64_t>(sizeof(T)); }

  // Part `index` of `parts`, cut along the longer side of c.
  Product part(int64_t index, int64_t parts) const {
    Product p = *this;
    if (m >= n) {
      const int64_t begin = m * index / parts;
      p.m = m * (index + 1) / parts - begin;
      p.a.data += begin * a.rs;
      p.c.data += begin * c.rs;
    } else {
      const int64_t begin = n * index / parts;
      p.n = n * (index + 1) / parts - begin;
      p.b.data += begin * b.cs;
      p.c.data += begin * c.cs;
    }
    return p;
  }
};

// `count` products, a step apart.
template <class T>
struct ProductRun {
  int64_t count;
  Product<T> problem;
  int64_t a_step, b_step, c_step;

  Product<T> operator[](int64_t i) const {
    Product<T> p = problem;
    p.a.data += i * a_step;
    p.b.data += i * b_step;
    p.c.data += i * c_step;
    return p;
  }
  ProductRun part(int64_t first, int64_t size) const {
    return {size, (*this)[first], a_step, b_step, c_step};
  }
};

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

// All products of a run; `packing` is that of one of them.
template <class T>
void multiply(const ProductRun<T>& run, T* packing);

}  // namespace gdcore::cpu
