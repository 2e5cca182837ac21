// The rows of a problem in the device's memory, as kernels take them.
#pragma once

#include <optional>

#include "cuda/driver.hpp"
#include "cuda/kernels/rows_params.hpp"
#include "device.hpp"

namespace gdcore::cuda {

// An address in the rows' memory, or null if there are no elements: nothing is on the device then.
template <class T>
const void* any_element(const LinearArgs<T>& args) {
  if (args.n == 0) return nullptr;
  if (args.d > 0) return args.X.data;
  if (args.sample_weight.data) return args.sample_weight.data;
  if (args.t == 0) return nullptr;
  return args.y.data ? args.y.data : args.offset.data;
}

// Means and factors of standardised columns, copied to the device.
class Scaling {
 public:
  template <class T>
  explicit Scaling(const LinearArgs<T>& args) {
    if (!args.scaling) return;
    const auto bytes = static_cast<size_t>(2 * args.d + args.t) * sizeof(double);
    memory_.emplace(bytes);
    copy_to_device(memory_->as<void>(), args.scaling, bytes);
  }
  const double* data() const { return memory_ ? memory_->as<double>() : nullptr; }

 private:
  std::optional<Memory> memory_;
};

// Target 0; scaling: on the device.
template <class T>
Rows<T> rows_of(const LinearArgs<T>& args, const Scaling& scaling) {
  return {static_cast<int>(args.d),
          args.X.data,
          args.y.data,
          args.offset.data,
          args.sample_weight.data,
          args.X.rs,
          args.X.cs,
          args.y.rs,
          args.offset.rs,
          args.sample_weight.stride,
          scaling.data(),
          args.loss};
}

}  // namespace gdcore::cuda
