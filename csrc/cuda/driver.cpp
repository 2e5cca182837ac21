#include "cuda/driver.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

namespace gdcore::cuda {
namespace {

#define GDCORE_DRIVER(f)                                                                \
  f(cuInit, (unsigned flags))                                                           \
  f(cuDriverGetVersion, (int* version))                                                 \
  f(cuDeviceGetCount, (int* count))                                                     \
  f(cuDeviceGet, (int* device, int ordinal))                                            \
  f(cuDeviceGetName, (char* name, int length, int device))                              \
  f(cuDeviceGetAttribute, (int* value, int attribute, int device))                      \
  f(cuDeviceTotalMem_v2, (size_t* bytes, int device))                                   \
  f(cuDevicePrimaryCtxRetain, (void** context, int device))                             \
  f(cuCtxPushCurrent_v2, (void* context))                                               \
  f(cuCtxPopCurrent_v2, (void** context))                                               \
  f(cuStreamCreate, (Stream* stream, unsigned flags))                                   \
  f(cuStreamSynchronize, (Stream stream))                                               \
  f(cuStreamWaitEvent, (Stream stream, void* event, unsigned flags))                    \
  f(cuEventCreate, (void** event, unsigned flags))                                      \
  f(cuEventRecord, (void* event, Stream stream))                                        \
  f(cuEventDestroy_v2, (void* event))                                                   \
  f(cuModuleLoadData, (void** module, const void* image))                               \
  f(cuModuleGetFunction, (void** function, void* module, const char* name))             \
  f(cuFuncSetAttribute, (void* function, int attribute, int value))                     \
  f(cuMemAllocAsync, (Address * at, size_t bytes, Stream stream))                       \
  f(cuMemFreeAsync, (Address at, Stream stream))                                        \
  f(cuMemcpyHtoDAsync_v2, (Address to, const void* from, size_t bytes, Stream stream))  \
  f(cuMemcpyDtoHAsync_v2, (void* to, Address from, size_t bytes, Stream stream))        \
  f(cuMemcpyDtoDAsync_v2, (Address to, Address from, size_t bytes, Stream stream))      \
  f(cuLaunchKernel,                                                                     \
    (void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,   \
     unsigned bz, unsigned shared, Stream stream, void** params, void** extra))         \
  f(cuPointerGetAttribute, (void* value, int attribute, Address at))                    \
  f(cuGetErrorString, (int error, const char** text))

struct Driver {
#define GDCORE_MEMBER(name, args) int(*name) args = nullptr;
  GDCORE_DRIVER(GDCORE_MEMBER)
#undef GDCORE_MEMBER
};

constexpr int least_driver = 13000;  // what the fatbin's PTX asks for
constexpr int out_of_memory = 2;     // CUDA_ERROR_OUT_OF_MEMORY

std::mutex mutex;
pid_t opened_by = 0;

const char* driver_path() {
  const char* given = std::getenv("GDCORE_CUDA_DRIVER");
  return given ? given : "libcuda.so.1";
}

Driver open() {
  void* const library = dlopen(driver_path(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    throw Unavailable(
        "no CUDA driver is installed here (libcuda.so.1 was not found); use the CPU, or install "
        "NVIDIA's driver.");
  Driver d;
#define GDCORE_LOAD(name, args)                                       \
  d.name = reinterpret_cast<decltype(d.name)>(dlsym(library, #name)); \
  if (!d.name)                                                        \
    throw Unavailable("the CUDA driver is too old: it has no " #name "; install a newer one.");
  GDCORE_DRIVER(GDCORE_LOAD)
#undef GDCORE_LOAD
  if (d.cuInit(0) != 0) throw Unavailable("the CUDA driver found no usable GPU.");
  int version = 0, count = 0;
  d.cuDriverGetVersion(&version);
  if (version < least_driver)
    throw Unavailable("the CUDA driver supports CUDA " + std::to_string(version / 1000) + "." +
                      std::to_string(version % 1000 / 10) +
                      ", but gdcore's kernels need 13.0; install a driver of release 580 or later.");
  if (d.cuDeviceGetCount(&count) != 0 || count == 0)
    throw Unavailable("the CUDA driver found no GPU.");
  opened_by = getpid();
  return d;
}

const Driver& driver() {
  static const Driver opened = open();
  if (getpid() != opened_by)
    throw Unavailable(
        "CUDA was used before this process was forked, and cannot be used after; start workers "
        "with the 'spawn' method.");
  return opened;
}

void check(int error, const char* what) {
  if (error == 0) return;
  const char* text = nullptr;
  driver().cuGetErrorString(error, &text);
  throw std::runtime_error(std::string("CUDA: ") + what + ": " + (text ? text : "unknown error") +
                           " (" + std::to_string(error) + ")");
}

// What is kept of each device.
struct Opened {
  void *context = nullptr, *module = nullptr;
  Stream stream = nullptr;
  std::map<std::string, void*> functions;
  Properties properties;
};
std::map<int, Opened> devices;

thread_local Place place;
thread_local int depth = 0;

// The file beside the driver that the environment names, or beside this library.
std::vector<char> kernels() {
  std::string path;
  if (std::getenv("GDCORE_CUDA_DRIVER")) {
    path = driver_path();
  } else {
    Dl_info info;
    if (dladdr(reinterpret_cast<void*>(&open), &info) && info.dli_fname) path = info.dli_fname;
  }
  path = path.substr(0, path.rfind('/') + 1) + "kernels.fatbin";
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw Unavailable("this build of gdcore has no CUDA kernels; install it with GDCORE_CUDA=1 pip "
                      "install gdcore --no-binary gdcore.");
  return {std::istreambuf_iterator<char>(file), {}};
}

Opened& opened(int ordinal) {
  const std::lock_guard lock(mutex);
  Opened& d = devices[ordinal];
  if (!d.context)
    check(driver().cuDevicePrimaryCtxRetain(&d.context, ordinal), "opening the device");
  return d;
}

void* function(const char* name) {
  Opened& d = opened(place.ordinal);
  const std::lock_guard lock(mutex);
  void*& f = d.functions[name];
  if (f) return f;
  if (!d.module) {
    const std::vector<char> image = kernels();
    check(driver().cuModuleLoadData(&d.module, image.data()), "loading the kernels");
  }
  check(driver().cuModuleGetFunction(&f, d.module, name), name);
  return f;
}

Address address(const void* at) { return reinterpret_cast<Address>(at); }

}  // namespace

OutOfMemory::OutOfMemory(size_t bytes)
    : text_("the GPU has no room for " + std::to_string(bytes) +
            " bytes more; pass fewer rows at a time, or free arrays.") {}

Scope::Scope(Place p) : before_(place), nested_(depth > 0) {
  check(driver().cuCtxPushCurrent_v2(opened(p.ordinal).context), "using the device");
  place = p;
  ++depth;
}
Scope::~Scope() {
  void* context;
  driver().cuCtxPopCurrent_v2(&context);
  --depth;
  place = before_;
}

Place current() { return place; }

int device_count() {
  int count = 0;
  check(driver().cuDeviceGetCount(&count), "counting devices");
  return count;
}

const Properties& properties(int ordinal) {
  Opened& d = opened(ordinal);
  const std::lock_guard lock(mutex);
  if (d.properties.sm == 0) {
    const auto attribute = [&](int which) {
      int value = 0;
      check(driver().cuDeviceGetAttribute(&value, which, ordinal), "asking the device");
      return value;
    };
    char name[256] = {};
    check(driver().cuDeviceGetName(name, sizeof name, ordinal), "asking the device");
    size_t memory = 0;
    check(driver().cuDeviceTotalMem_v2(&memory, ordinal), "asking the device");
    d.properties = {name, 10 * attribute(75) + attribute(76), attribute(16), memory,
                    static_cast<size_t>(attribute(97))};
  }
  return d.properties;
}

int ordinal_of(const void* at) {
  int ordinal = 0;
  check(driver().cuPointerGetAttribute(&ordinal, 9, address(at)), "finding an array's device");
  return ordinal;
}

Place home_of(const void* at) {
  const int ordinal = ordinal_of(at);
  Opened& d = opened(ordinal);
  const std::lock_guard lock(mutex);
  if (!d.stream) {
    check(driver().cuCtxPushCurrent_v2(d.context), "using the device");
    const int error = driver().cuStreamCreate(&d.stream, 1);  // does not wait for the legacy stream
    void* context;
    driver().cuCtxPopCurrent_v2(&context);
    check(error, "making a stream");
  }
  return {ordinal, d.stream};
}

Memory::Memory(size_t bytes) : stream_(place.stream) {
  if (bytes == 0) return;
  const int error = driver().cuMemAllocAsync(&at_, bytes, stream_);
  if (error == out_of_memory) throw OutOfMemory(bytes);
  check(error, "allocating");
}
Memory::~Memory() {
  if (at_) driver().cuMemFreeAsync(at_, stream_);
}

void copy_to_device(void* to, const void* from, size_t bytes) {
  if (bytes > 0)
    check(driver().cuMemcpyHtoDAsync_v2(address(to), from, bytes, place.stream), "copying");
}
void copy_to_host(void* to, const void* from, size_t bytes) {
  if (bytes > 0)
    check(driver().cuMemcpyDtoHAsync_v2(to, address(from), bytes, place.stream), "copying");
}
void copy_on_device(void* to, const void* from, size_t bytes) {
  if (bytes > 0)
    check(driver().cuMemcpyDtoDAsync_v2(address(to), address(from), bytes, place.stream),
          "copying");
}
void wait_for(Stream other) {
  constexpr unsigned no_timing = 2;
  void* event = nullptr;
  check(driver().cuEventCreate(&event, no_timing), "ordering streams");
  int error = driver().cuEventRecord(event, other);
  if (error == 0) error = driver().cuStreamWaitEvent(place.stream, event, 0);
  driver().cuEventDestroy_v2(event);
  check(error, "ordering streams");
}
void synchronize() { check(driver().cuStreamSynchronize(place.stream), "waiting"); }

void launch(const char* kernel, int64_t blocks, int threads, size_t shared_bytes,
            const void* params) {
  if (blocks == 0) return;
  if (blocks > 0x7fffffff) throw std::runtime_error("the arrays are too large for one launch.");
  void* const f = function(kernel);
  constexpr int dynamic_shared_bytes = 8;
  if (shared_bytes > (48u << 10))
    check(driver().cuFuncSetAttribute(f, dynamic_shared_bytes, static_cast<int>(shared_bytes)),
          kernel);
  void* args[] = {const_cast<void*>(params)};
  check(driver().cuLaunchKernel(f, static_cast<unsigned>(blocks), 1, 1,
                                static_cast<unsigned>(threads), 1, 1,
                                static_cast<unsigned>(shared_bytes), place.stream, args, nullptr),
        kernel);
}

}  // namespace gdcore::cuda
