#include <stdexcept>

#include "cuda/driver.hpp"
#include "cuda/operations.hpp"

namespace gdcore::cuda {

template <class T>
void descend_each(int64_t, const DescentArgs<T>*) {
  throw std::logic_error("not written");
}
template void descend_each(int64_t, const DescentArgs<float>*);
template void descend_each(int64_t, const DescentArgs<double>*);

}  // namespace gdcore::cuda
