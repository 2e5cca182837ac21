#include <stdexcept>

#include "cuda/driver.hpp"
#include "cuda/operations.hpp"

namespace gdcore::cuda {

template <class T>
void linear(const LinearArgs<T>&, int64_t, int64_t, LinearSums&) {
  throw std::logic_error("not written");
}
template void linear(const LinearArgs<float>&, int64_t, int64_t, LinearSums&);
template void linear(const LinearArgs<double>&, int64_t, int64_t, LinearSums&);

template <class T>
void linear_each(int64_t, const LossArgs<T>*) {
  throw std::logic_error("not written");
}
template void linear_each(int64_t, const LossArgs<float>*);
template void linear_each(int64_t, const LossArgs<double>*);

template <class T>
void fetch(const ProblemRows<T>&, T*) {
  throw std::logic_error("not written");
}
template void fetch(const ProblemRows<float>&, float*);
template void fetch(const ProblemRows<double>&, double*);

}  // namespace gdcore::cuda
