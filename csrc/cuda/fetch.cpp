#include <stdexcept>

#include "cuda/driver.hpp"
#include "cuda/operations.hpp"

namespace gdcore::cuda {

template <class T>
void fetch(const ProblemRows<T>&, T*) {
  throw std::logic_error("not written");
}
template void fetch(const ProblemRows<float>&, float*);
template void fetch(const ProblemRows<double>&, double*);

}  // namespace gdcore::cuda
