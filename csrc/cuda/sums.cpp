#include <stdexcept>

#include "cuda/driver.hpp"
#include "cuda/operations.hpp"

namespace gdcore::cuda {

template <class T>
void mse(const MseArgs<T>&) {
  throw std::logic_error("not written");
}
template void mse(const MseArgs<float>&);
template void mse(const MseArgs<double>&);

template <class T>
void sgd(int64_t, T*, const T*, T*, bool, double, const SgdOptions&) {
  throw std::logic_error("not written");
}
template void sgd(int64_t, float*, const float*, float*, bool, double, const SgdOptions&);
template void sgd(int64_t, double*, const double*, double*, bool, double, const SgdOptions&);

}  // namespace gdcore::cuda
