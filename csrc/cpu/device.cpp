// The CPU's row of the device table.
#include "device.hpp"

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"

namespace gdcore {

template <class T>
const Device<T>& cpu_device() {
  static constexpr Device<T> table{cpu::matmul<T>,      cpu::mse<T>,     cpu::linear<T>,
                                   cpu::linear_each<T>, cpu::moments<T>, cpu::quadratic<T>,
                                   cpu::sgd<T>};
  return table;
}
template const Device<float>& cpu_device<float>();
template const Device<double>& cpu_device<double>();

template <class T>
const Device<T>& device() {
  return reference_chosen() ? reference_device<T>() : cpu_device<T>();
}
template const Device<float>& device<float>();
template const Device<double>& device<double>();

}  // namespace gdcore
