// Runs the blocks of a launch, one after another.
#pragma once

#include <cstddef>
#include <string>

#include "emulation.hpp"

namespace emulation {

struct LaunchShape {
  Dim3 grid, block;
  size_t shared_bytes = 0;
};

// Why a launch is refused before it runs, as a sentence; null if it is not.
const char* refusal(const std::string& kernel, const LaunchShape& shape);
bool is_kernel(const std::string& name);
size_t params_bytes(const std::string& kernel);

// In which order threads run between barriers: 0 forward, 1 backward, else shuffled by that seed.
enum class Outcome { done, illegal_address, failed };
Outcome run(const std::string& kernel, const LaunchShape& shape, const void* params, int order);

}  // namespace emulation
