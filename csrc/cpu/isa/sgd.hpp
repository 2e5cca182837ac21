// One step of torch.optim.SGD on contiguous parameters.
#pragma once

#include "ordinary_epoch.hpp"
#include "table.hpp"
#include "vector.hpp"

namespace {

// The operations of T or of vec<T>, with choices that hold for all parameters: see OneNumber.
struct AllAlike {
  template <class X>
  static inline X fma(X a, X b, X c) {
    return ::fma(a, b, c);
  }
  template <class X, class Value>
  static inline X pick(bool yes, const Value& value, X other) {
    return yes ? value() : other;
  }
};

template <class T>
void sgd(index_t n, T* param, const T* grad, T* velocity, const gdcore::SgdStep<T>& step) {
  const bool decays = step.weight_decay != 0;
  const gdcore::StepRates<T, bool> one{-step.lr, step.momentum, step.damped,  step.weight_decay,
                                       decays,   step.first,    step.nesterov};
  const gdcore::StepRates<vec<T>, bool> rates{broadcast(one.down),
                                              broadcast(one.momentum),
                                              broadcast(one.damped),
                                              broadcast(one.decay),
                                              decays,
                                              step.first,
                                              step.nesterov};
  index_t i = 0;
  for (; i + W<T> <= n; i += W<T>) {
    const vec<T> g = load(grad + i);
    vec<T> v = velocity ? load(velocity + i) : vec<T>{};
    store(param + i, gdcore::sgd_step<AllAlike>(rates, load(param + i), step.maximize ? -g : g,
                                                velocity ? &v : nullptr));
    if (velocity) store(velocity + i, v);
  }
  for (; i < n; ++i)  // one by one: a masked store would hold up the load of the next step
    param[i] = gdcore::sgd_step<AllAlike>(one, param[i], step.maximize ? -grad[i] : grad[i],
                                          velocity ? velocity + i : nullptr);
}

}  // namespace
