// The functions of the CUDA driver, opened on first use: building this takes no header or library
// of CUDA's, and loading it touches nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda/errors.hpp"

namespace gdcore::cuda {

using Address = unsigned long long;
using Stream = void*;  // CUstream; null: the legacy default stream

// clang-format off: one function a line
#define GDCORE_CUDA_FUNCTIONS(f)                                                            \
  f(cuInit, (unsigned flags))                                                               \
  f(cuDriverGetVersion, (int* version))                                                     \
  f(cuDeviceGetCount, (int* count))                                                         \
  f(cuDeviceGetName, (char* name, int length, int device))                                  \
  f(cuDeviceGetAttribute, (int* value, int attribute, int device))                          \
  f(cuDeviceTotalMem_v2, (size_t* bytes, int device))                                       \
  f(cuDevicePrimaryCtxRetain, (void** context, int device))                                 \
  f(cuCtxPushCurrent_v2, (void* context))                                                   \
  f(cuCtxPopCurrent_v2, (void** context))                                                   \
  f(cuStreamCreate, (Stream* stream, unsigned flags))                                       \
  f(cuStreamSynchronize, (Stream stream))                                                   \
  f(cuStreamWaitEvent, (Stream stream, void* event, unsigned flags))                        \
  f(cuEventCreate, (void** event, unsigned flags))                                          \
  f(cuEventRecord, (void* event, Stream stream))                                            \
  f(cuEventSynchronize, (void* event))                                                      \
  f(cuEventDestroy_v2, (void* event))                                                       \
  f(cuThreadExchangeStreamCaptureMode, (int* mode))                                         \
  f(cuModuleLoadData, (void** module, const void* image))                                   \
  f(cuModuleGetFunction, (void** function, void* module, const char* name))                 \
  f(cuFuncSetAttribute, (void* function, int attribute, int value))                         \
  f(cuMemPoolCreate, (void** pool, const void* properties))                                 \
  f(cuMemPoolSetAttribute, (void* pool, int attribute, void* value))                        \
  f(cuMemAllocFromPoolAsync, (Address* at, size_t bytes, void* pool, Stream stream))        \
  f(cuMemFreeAsync, (Address at, Stream stream))                                            \
  f(cuMemHostAlloc, (void** at, size_t bytes, unsigned flags))                              \
  f(cuMemFreeHost, (void* at))                                                              \
  f(cuMemcpyHtoDAsync_v2, (Address to, const void* from, size_t bytes, Stream stream))      \
  f(cuMemcpyDtoHAsync_v2, (void* to, Address from, size_t bytes, Stream stream))            \
  f(cuMemcpyDtoDAsync_v2, (Address to, Address from, size_t bytes, Stream stream))          \
  f(cuLaunchKernel,                                                                         \
    (void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,       \
     unsigned bz, unsigned shared, Stream stream, void** params, void** extra))             \
  f(cuPointerGetAttribute, (void* value, int attribute, Address at))                        \
  f(cuGetErrorString, (int error, const char** text))
// clang-format on

struct Api {
#define GDCORE_MEMBER(name, args) int(*name) args = nullptr;
  GDCORE_CUDA_FUNCTIONS(GDCORE_MEMBER)
#undef GDCORE_MEMBER
};

enum Error {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  invalid_device = 101,
  no_binary_for_gpu = 209,
  unsupported_ptx_version = 222,
  not_found = 500,
  not_supported = 801,
};

// The driver, initialised in this process. Throws Unavailable or Broken.
const Api& api();
// The same for what must not throw; null if nothing can be given back any more.
const Api* api_if_open() noexcept;

// Throws what an error of the driver means. `doing`: such as "copying".
void check(int error, const char* doing);

// What a device says of itself; plain data, so that a child can hand it to its parent.
struct DeviceFacts {
  char name[128];
  int sm, multiprocessors;  // sm 90: compute capability 9.0
  size_t memory, shared_bytes;
};
int ask(const Api& api, int ordinal, DeviceFacts& facts);  // returns an error of the driver

// In two steps, for who wants to look without initialising this process.
Api load_api();                  // throws Unavailable
int initialize(const Api& api);  // returns how many devices there are; throws Unavailable
std::string cuda_version(const Api& api);

}  // namespace gdcore::cuda
