// Addresses of rows, and their prefetch.
#pragma once

#include "vector.hpp"

namespace {

// R rows, rs apart, from as few registers as the addressing modes allow: a pointer for every four.
// By itself the compiler keeps a pointer for each row, most of them in memory.
template <class T, int R>
struct RowPointers {
  static constexpr int groups = (R + 3) / 4;
  const T* group[groups];
  index_t rs, rs3;

  RowPointers() {}
  RowPointers(const T* x, index_t stride) : rs(stride), rs3(3 * stride) {
    asm("" : "+r"(rs3));
#pragma GCC unroll 4
    for (int g = 0; g < groups; ++g) {
      group[g] = x + 4 * g * stride;
      asm("" : "+r"(group[g]));
    }
  }
  inline const T* row(int i) const {
    const T* const x = group[i / 4];
    return i % 4 == 3 ? x + rs3 : x + i % 4 * rs;
  }
  inline void move(index_t columns) {
#pragma GCC unroll 4
    for (int g = 0; g < groups; ++g) group[g] += columns;
  }
};

// Prefetch distance of the rows of X. Measured: 10 to 50 % on data larger than the caches, nothing
// lost on smaller ones.
constexpr index_t prefetch_bytes = 4096;

template <class T>
inline void prefetch(const T* p, index_t ahead) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + ahead);
}

}  // namespace
