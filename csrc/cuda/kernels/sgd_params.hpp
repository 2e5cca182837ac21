// What the kernel of an SGD step takes.
#pragma once

#include <cstdint>

#include "ordinary_epoch.hpp"

namespace gdcore::cuda {

template <class T>
struct SgdParams {
  int64_t n;
  T* param;
  const T* grad;
  T* velocity;  // null without momentum
  StepRates<T, bool> rates;
  bool maximize;
};

}  // namespace gdcore::cuda
