// The GPU's row of the device table.
#include "cuda/operations.hpp"

namespace gdcore {
namespace {

template <class T>
void curvature_each_on_host(int64_t count, const CurvatureArgs* hessians) {
  host_device<T>().curvature_each(count, hessians);
}

}  // namespace

template <class T>
const Device<T>& cuda_device() {
  constexpr bool of_host = false;
  constexpr int64_t block = 1 << 17;  // problems: as many as threads that run at once
  static constexpr Device<T> table{of_host,
                                   block,
                                   cuda::matmul<T>,
                                   cuda::mse<T>,
                                   cuda::linear<T>,
                                   cuda::linear_each<T>,
                                   cuda::moments<T>,
                                   cuda::moments_each<T>,
                                   cuda::sgd<T>,
                                   cuda::descend_each<T>,
                                   curvature_each_on_host<T>,
                                   cuda::fetch<T>};
  return table;
}
template const Device<float>& cuda_device<float>();
template const Device<double>& cuda_device<double>();

}  // namespace gdcore
