// What the kernels of products take.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gdcore::cuda {

// The batch dimensions of a product, merged; `problems` is their product.
struct BatchDims {
  static constexpr int most = 6;

  int64_t problems;
  int count;
  int64_t shape[most], a[most], b[most], c[most];
};

// a's rows or b's columns, and their terms. along_k: a row's terms lie closer together than rows.
template <class T>
struct Operand {
  const T* data;
  int64_t stride, k_stride;
  bool along_k;
};

// Where the sums of the elements of all problems go, element (i, j) of a problem as element
// i * n + j of m * n.
template <class T>
struct Result {
  T* data;
  int64_t rs, cs;
};

// Products in tiles. The terms of a product are cut into parts, whose sums go to `partials`
// (parts, problems, m, n) unless there is only one part.
template <class T>
struct MatmulParams {
  int64_t m, n, k;
  Operand<T> a, b;
  Result<T> c;
  bool c_in_packs;  // rows of c begin at multiples of 16 bytes, columns are neighbours
  BatchDims batch;
  int64_t part, parts;
  T* partials;
  int64_t tiles_m, tiles_n;
  int64_t first_block;  // of this launch
};

// Products of m, n, k <= 32. A block takes `group` problems.
template <class T>
struct SmallMatmulParams {
  int m, n, k, group;
  Operand<T> a, b;
  Result<T> c;
  bool a_dense, b_dense, c_dense;  // consecutive problems are consecutive in memory, by rows
  bool one_b;                      // all problems share b
  BatchDims batch;
  // What divides by sizes, see times_reciprocal.
  uint32_t by_a, by_a_row, by_b, by_b_row, by_c, by_c_row, by_tiles, by_tiles_n;
  int64_t first_block;
};

// Products with one column. A row's sum is cut into segments, whose sums go to `partials`
// (segments, problems * m) unless there is only one.
template <class T>
struct MatvecParams {
  int64_t m, k;
  const T *a, *x;
  int64_t a_rs, a_cs, x_stride;
  T* c;
  int64_t c_rs;
  BatchDims batch;
  int lanes;
  int64_t segments;
  T* partials;
  int64_t first_block;
};

}  // namespace gdcore::cuda
