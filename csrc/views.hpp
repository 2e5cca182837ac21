// Views of arrays in memory. Strides are in elements; 0 broadcasts.
#pragma once

#include "contract.hpp"
#include "dims.hpp"

namespace gdcore {

template <class T>
struct Matrix {  // (rows, cols), element (i, j) at data[i * rs + j * cs]
  T* data;
  int64_t rs, cs;
};

template <class T>
struct Vector {  // element i at data[i * stride]; data may be null where a vector is optional
  T* data;
  int64_t stride;
};

// Elements in C order of an n-dimensional strided array.
template <class T>
struct Elements {
  T* data;
  Dims shape, strides;
};

}  // namespace gdcore
