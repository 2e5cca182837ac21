// What there is of CUDA here, for the user to read.
#pragma once

#include <string>
#include <vector>

#include "cuda/driver.hpp"

namespace gdcore::cuda {

struct DeviceInfo {
  Properties properties;
  std::string architecture;  // of the kernels that it runs; empty: none
};

struct Info {
  std::string reason;  // why gdcore can use no GPU, as a sentence; empty if it can
  std::string driver;  // the version of CUDA that the driver supports
  std::string fatbin;
  size_t fatbin_bytes = 0;
  std::vector<std::string> architectures;
  std::vector<DeviceInfo> devices;
};

// Does not initialise CUDA in this process, after which no child of it could use a GPU: asks in a
// child of its own, unless CUDA is in use already.
Info info();

}  // namespace gdcore::cuda
