// The file of the kernels: machine code for some architectures, and PTX for all later ones.
#pragma once

#include <string>
#include <vector>

namespace gdcore::cuda {

// GDCORE_CUDA_FATBIN; else kernels.fatbin beside the driver that GDCORE_CUDA_DRIVER names; else
// beside this library. Empty if there is none.
std::string fatbin_path();
std::vector<char> read_fatbin();  // throws Unavailable

// Such as "sm_90", and "compute_90" for PTX; empty if the file is not what nvcc writes.
std::vector<std::string> architectures_of(const std::vector<char>& fatbin);
// Which of them a device runs: its own generation's, else PTX, which the driver compiles. Empty if
// none.
std::string architecture_for(int sm, const std::vector<std::string>& architectures);

}  // namespace gdcore::cuda
