// One step of torch.optim.SGD on contiguous parameters.
#pragma once

#include "simd.hpp"
#include "table.hpp"

namespace {

template <class T>
void sgd(index_t n, T* param, const T* grad, T* velocity, const gdcore::SgdStep<T>& step) {
  const vec<T> down = broadcast(-step.lr), momentum = broadcast(step.momentum), damped = broadcast(step.damped);
  const vec<T> decay = broadcast(step.weight_decay);
  for (index_t i = 0; i < n; i += W<T>) {
    const int lanes = n - i < W<T> ? static_cast<int>(n - i) : W<T>;
    const vec<T> p = load_first(param + i, lanes);
    vec<T> g = load_first(grad + i, lanes);
    if (step.maximize) g = -g;
    if (step.weight_decay != 0) g = fma(decay, p, g);
    if (velocity) {
      const vec<T> v = step.first ? g : fma(damped, g, momentum * load_first(velocity + i, lanes));
      store_first(velocity + i, lanes, v);
      g = step.nesterov ? fma(momentum, v, g) : v;
    }
    store_first(param + i, lanes, fma(down, g, p));
  }
}

}  // namespace
