// Runs the blocks of a launch, one after another.
#pragma once

#include <cstddef>
#include <string>

#include "emulation.hpp"
#include "memory.hpp"

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
Outcome run(const std::string& kernel, const LaunchShape& shape, const void* params,
            const Memory& memory, int order);

// Ends the launch unless the running thread may touch these bytes: they are aligned, and the
// device's, the block's, the thread's own, or the kernel's parameters.
void check_access(uintptr_t at, size_t bytes, bool writes);

}  // namespace emulation
