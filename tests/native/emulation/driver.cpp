// libcuda on this CPU: devices, contexts, modules, launches.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "blocks.hpp"
#include "state.hpp"

namespace {

using namespace emulation;

constexpr int oldest_sm = 80;  // of the machine code that the fatbin is said to hold
constexpr size_t shared_without_asking = 48 << 10;

struct Function {
  std::string name;
  Device& device;
  size_t shared_bytes = shared_without_asking;
};

int initialized(int error = success) {
  return state().process == getpid() ? error : not_initialized;
}

int attribute(int which) {
  const int sm = static_cast<int>(option("sm"));
  switch (which) {
    case 75: return sm / 10;
    case 76: return sm % 10;
    case 16: return 4;  // multiprocessors
    case 97: return static_cast<int>(option("shared"));
    case 115: return static_cast<int>(option("pools"));
    default: return 0;
  }
}

int finished(Outcome outcome) {
  if (outcome == Outcome::done) return success;
  return outcome == Outcome::illegal_address ? illegal_address : launch_failed;
}

bool stays(int error) { return error >= 700 && error < 720 && error != 701; }

int launch(const Function& function, const LaunchShape& shape, Stream& stream, const void* params) {
  const char* refused = refusal(function.name, shape);
  if (&function.device != &stream.device) refused = "the kernel was loaded for another device";
  if (shape.shared_bytes > function.shared_bytes) refused = "more shared memory than was granted";
  if (refused) {
    std::fprintf(stderr, "emulation: %s: %s\n", function.name.c_str(), refused);
    return invalid_value;
  }
  const int failure = comes_now("fail_launch") ? static_cast<int>(option("fail_launch_with")) : 0;
  if (failure && !stays(failure)) return failure;
  const auto* const first = static_cast<const unsigned char*>(params);
  std::vector<unsigned char> copied(first, first + params_bytes(function.name));
  Device& device = stream.device;
  return enqueue(
      stream, [&device, name = function.name, shape, copied = std::move(copied), failure] {
        const int order = static_cast<int>(option("order"));
        backward_mma = option("backward_mma") != 0;
        return failure ? failure : finished(run(name, shape, copied.data(), device.memory, order));
      });
}

}  // namespace

API int cuInit(unsigned) {
  const std::lock_guard lock(state().mutex);
  if (state().process && state().process != getpid()) return not_initialized;
  if (option("devices") == 0) return no_device;
  state().process = getpid();
  log("init");
  return success;
}
API int cuDriverGetVersion(int* version) {
  *version = static_cast<int>(option("driver"));
  return success;
}
API int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(option("devices"));
  return initialized();
}
API int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return initialized(ordinal < 0 || ordinal >= option("devices") ? invalid_device : success);
}
API int cuDeviceGetName(char* name, int length, int) {
  std::snprintf(name, static_cast<size_t>(length), "Emulated GPU");
  return initialized();
}
API int cuDeviceGetAttribute(int* value, int which, int) {
  *value = attribute(which);
  return initialized();
}
API int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = static_cast<size_t>(option("memory"));
  return initialized();
}
API int cuGetErrorString(int error, const char** text) {
  static const std::map<int, const char*> texts = {
      {invalid_value, "invalid argument"},
      {out_of_memory, "out of memory"},
      {not_initialized, "initialization error"},
      {no_device, "no CUDA-capable device is detected"},
      {invalid_context, "invalid device context"},
      {no_binary_for_gpu, "no kernel image is available for execution on the device"},
      {invalid_handle, "invalid resource handle"},
      {not_found, "named symbol not found"},
      {illegal_address, "an illegal memory access was encountered"},
      {701, "too many resources requested for launch"},
      {launch_failed, "unspecified launch failure"},
      {not_supported, "operation not supported"},
      {capture_unsupported, "operation not permitted when stream is capturing"},
      {capture_implicit, "operation would make the legacy stream depend on a capturing stream"},
  };
  const auto found = texts.find(error);
  *text = found == texts.end() ? nullptr : found->second;
  return *text ? success : invalid_value;
}

API int cuDevicePrimaryCtxRetain(void** context, int ordinal) {
  const std::lock_guard lock(state().mutex);
  if (ordinal < 0 || ordinal >= option("devices")) return invalid_device;
  *context = &state().device(ordinal);
  return initialized();
}
API int cuCtxPushCurrent_v2(void* context) {
  const std::lock_guard lock(state().mutex);
  if (comes_now("fail_push")) return invalid_context;
  if (!context) return invalid_context;
  contexts().push_back(static_cast<Device*>(context));
  return initialized();
}
API int cuCtxPopCurrent_v2(void** context) {
  if (contexts().empty()) return invalid_context;
  *context = contexts().back();
  contexts().pop_back();
  return initialized();
}
API int cuCtxGetCurrent(void** context) {
  *context = contexts().empty() ? nullptr : contexts().back();
  return initialized();
}
API int cuCtxSetCurrent(void* context) {
  if (!contexts().empty()) contexts().pop_back();
  if (context) contexts().push_back(static_cast<Device*>(context));
  return initialized();
}
API int cuCtxGetDevice(int* ordinal) {
  return with_device([&](Device& device) {
    *ordinal = device.ordinal;
    return success;
  });
}
API int cuCtxSynchronize() {
  return with_device([](Device& device) {
    log("synchronize device %d", device.ordinal);
    if (const int error = forbidden_in_captures("cuCtxSynchronize")) return error;
    drain(device);
    return device.broken;
  });
}

API int cuModuleLoadData(void** module, const void*) {
  return with_device([&](Device& device) {
    if (const int error = forbidden_in_captures("cuModuleLoadData")) return error;
    if (option("sm") < oldest_sm) return static_cast<int>(no_binary_for_gpu);
    *module = &device;
    return static_cast<int>(success);
  });
}
API int cuModuleGetFunction(void** function, void* module, const char* name) {
  return with_device([&](Device&) {
    if (!is_kernel(name)) return not_found;
    *function = new Function{name, *static_cast<Device*>(module)};
    return success;
  });
}
API int cuFuncSetAttribute(void* function, int which, int value) {
  constexpr int dynamic_shared_bytes = 8;
  if (which != dynamic_shared_bytes || value > option("shared")) return invalid_value;
  static_cast<Function*>(function)->shared_bytes = static_cast<size_t>(value);
  return initialized();
}
API int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                       unsigned by, unsigned bz, unsigned shared_bytes, void* stream, void** params,
                       void**) {
  return with_stream(stream, [&](Device&, Stream& to) {
    const Function& kernel = *static_cast<Function*>(function);
    log("launch %s blocks %u threads %u shared %u stream %p", kernel.name.c_str(), gx, bx * by * bz,
        shared_bytes, stream);
    return launch(kernel, {{gx, gy, gz}, {bx, by, bz}, shared_bytes}, to, params[0]);
  });
}
