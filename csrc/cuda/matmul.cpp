#include <stdexcept>

#include "cuda/driver.hpp"
#include "cuda/operations.hpp"

namespace gdcore::cuda {

template <class T>
void matmul(const MatmulArgs<T>&) {
  throw std::logic_error("not written");
}
template void matmul(const MatmulArgs<float>&);
template void matmul(const MatmulArgs<double>&);

}  // namespace gdcore::cuda
