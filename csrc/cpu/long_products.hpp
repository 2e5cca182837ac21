// Products of few rows and columns over so long a k that its segments are lanes of vectors.
#pragma once

#include "cpu/gemm.hpp"
#include "cpu/threads.hpp"

namespace gdcore::cpu {

// Whether they are faster for this product than tiles.
template <class T>
bool is_long(const Product<T>& p);

// The elements of `memory` that a product on so many threads takes.
template <class T>
int64_t long_product_size(const Product<T>& p, int threads);

template <class T>
void multiply_long(const Product<T>& p, Team threads, T* memory);

}  // namespace gdcore::cpu
