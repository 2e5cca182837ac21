// Half the gradient of a quadratic, and the sum of squares.
#pragma once

#include "pairs.hpp"
#include "table.hpp"

namespace {

// C vectors of G w - c from j on, the last one perhaps only partly there: each a chain over w.
template <class T, int C>
inline void half_gradient(const gdcore::QuadraticArgs<T>& q, index_t j, double* out) {
  typedef typename SumOf<T, vec<double>>::type Sum;
  const index_t low = q.p * q.ld;
  Sum sum[C] = {};
  for (index_t b = 0; b < q.p; ++b) {
    const vec<double> factor = broadcast(static_cast<double>(q.w[b * q.w_stride]));
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      Sum g;
      read(g, q.G + b * q.ld + j + c * W<double>, low);
      sum[c] = add_product(sum[c], g, factor);
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) {
    const index_t at = j + c * W<double>, left = q.p - at;
    const int lanes = left < W<double> ? static_cast<int>(left) : W<double>;
    Sum offset;
    read_first(offset, q.c + at, q.p, lanes);
    write_first(out + at, q.p, lanes, subtract(sum[c], offset));
  }
}

template <class T>
double quadratic(const gdcore::QuadraticArgs<T>& q, double* gradient) {
  typedef typename SumOf<T, double>::type Sum;
  for (index_t j = 0; j < q.p; j += 4 * W<double>) {
    const index_t vectors = (q.p - j + W<double> - 1) / W<double>;
    switch (vectors) {
      case 1: half_gradient<T, 1>(q, j, gradient); break;
      case 2: half_gradient<T, 2>(q, j, gradient); break;
      case 3: half_gradient<T, 3>(q, j, gradient); break;
      default: half_gradient<T, 4>(q, j, gradient);
    }
  }
  Sum squares;
  read(squares, q.s, 1);
  for (index_t a = 0; a < q.p; ++a) {
    Sum g, c;
    read(g, gradient + a, q.p);
    read(c, q.c + a, q.p);
    squares = add_product(squares, subtract(g, c), static_cast<double>(q.w[a * q.w_stride]));
    gradient[a] = value(g);
  }
  return value(squares);
}

}  // namespace
