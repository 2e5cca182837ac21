#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"

namespace gdcore::cpu {

template <class T>
void sgd(int64_t n, T* param, const T* grad, T* velocity, bool first, double lr,
         const SgdOptions& options) {
  const SgdStep<T> step{static_cast<T>(lr),
                        static_cast<T>(options.momentum),
                        static_cast<T>(1.0 - options.dampening),
                        static_cast<T>(options.weight_decay),
                        options.nesterov,
                        options.maximize,
                        first};
  isa<T>().sgd(n, param, grad, velocity, step);
}
template void sgd<float>(int64_t, float*, const float*, float*, bool, double, const SgdOptions&);
template void sgd<double>(int64_t, double*, const double*, double*, bool, double,
                          const SgdOptions&);

}  // namespace gdcore::cpu
