// One step of torch.optim.SGD on contiguous parameters.
#pragma once

#include "table.hpp"
#include "vector.hpp"

namespace {

// For one parameter, or for a vector of them: U is T or vec<T>. v is null without momentum.
template <class T, class U>
inline void sgd_one(U& p, U g, U* v, U down, U momentum, U damped, U decay,
                    const gdcore::SgdStep<T>& step) {
  if (step.maximize) g = -g;
  if (step.weight_decay != 0) g = fma(decay, p, g);
  if (v) {
    *v = step.first ? g : fma(damped, g, momentum * *v);
    g = step.nesterov ? fma(momentum, *v, g) : *v;
  }
  p = fma(down, g, p);
}

template <class T>
void sgd(index_t n, T* param, const T* grad, T* velocity, const gdcore::SgdStep<T>& step) {
  const vec<T> down = broadcast(-step.lr), momentum = broadcast(step.momentum),
               damped = broadcast(step.damped);
  const vec<T> decay = broadcast(step.weight_decay);
  index_t i = 0;
  for (; i + W<T> <= n; i += W<T>) {
    vec<T> p = load(param + i), v = velocity ? load(velocity + i) : vec<T>{};
    sgd_one(p, load(grad + i), velocity ? &v : nullptr, down, momentum, damped, decay, step);
    store(param + i, p);
    if (velocity) store(velocity + i, v);
  }
  for (; i < n; ++i)  // one by one: a masked store would hold up the load of the next step
    sgd_one(param[i], grad[i], velocity ? velocity + i : nullptr, -step.lr, step.momentum,
            step.damped, step.weight_decay, step);
}

}  // namespace
