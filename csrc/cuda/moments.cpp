#include <stdexcept>

#include "cuda/driver.hpp"
#include "cuda/operations.hpp"

namespace gdcore::cuda {

template <class T>
void moments(const LinearArgs<T>&, int64_t, int64_t, Moments&) {
  throw std::logic_error("not written");
}
template void moments(const LinearArgs<float>&, int64_t, int64_t, Moments&);
template void moments(const LinearArgs<double>&, int64_t, int64_t, Moments&);

template <class T>
void moments_each(int64_t, const ProblemRows<T>*, Moments*) {
  throw std::logic_error("not written");
}
template void moments_each(int64_t, const ProblemRows<float>*, Moments*);
template void moments_each(int64_t, const ProblemRows<double>*, Moments*);

}  // namespace gdcore::cuda
