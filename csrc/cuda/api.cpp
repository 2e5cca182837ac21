#include "cuda/api.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <mutex>

namespace gdcore::cuda {
namespace {

constexpr int least_driver = 13000;  // what the fatbin's PTX asks for

Api opened_api;
std::atomic<const Api*> usable{nullptr};  // null too once the driver refuses everything
std::atomic<bool> open{false}, forked{false}, broken{false};
std::mutex mutex;
std::string what_broke;

[[noreturn]] void refuse_fork() {
  throw Unavailable(
      "CUDA was used before this process was forked, and cannot be used after; start workers with "
      "multiprocessing's 'spawn' or 'forkserver' method.");
}
[[noreturn]] void refuse_broken() {
  throw Broken("CUDA failed before in this process (" + what_broke +
               "), and its driver answers nothing more; restart the process to use the GPU.");
}

void after_fork() {
  if (!open) return;
  forked = true;
  usable = nullptr;
}

const Api& open_or_explain() {
  if (forked) refuse_fork();  // before the lock, which another thread may have held then
  const std::lock_guard lock(mutex);
  if (broken) refuse_broken();
  if (!open) {
    static const int registered = pthread_atfork(nullptr, nullptr, after_fork);
    static_cast<void>(registered);
    const Api found = load_api();
    initialize(found);
    opened_api = found;
    open = true;
  }
  usable = &opened_api;
  return opened_api;
}

std::string described(int error) {
  const char* text = nullptr;
  opened_api.cuGetErrorString(error, &text);
  return (text ? text : "unknown error") + (", error " + std::to_string(error));
}

// Errors that the driver repeats until the process ends.
bool stays(int error) {
  constexpr int lasting[] = {214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721};
  return std::find(std::begin(lasting), std::end(lasting), error) != std::end(lasting);
}

[[noreturn]] void fail_for_good(int error, const char* doing) {
  const std::lock_guard lock(mutex);
  if (!broken) what_broke = described(error);
  broken = true;
  usable = nullptr;
  throw Broken("CUDA failed while " + std::string(doing) + ": " + what_broke +
               ". A kernel of this process broke off, gdcore's or another library's; restart the "
               "process to use the GPU.");
}

// Why a call is refused while a stream is captured in a graph.
bool is_of_capture(int error) { return error >= 900 && error <= 908; }

}  // namespace

std::string with_size(size_t bytes) {
  const bool large = bytes >= size_t{1} << 30;
  char size[32];
  std::snprintf(size, sizeof size, "%.4g %s",
                static_cast<double>(bytes) / (large ? 1 << 30 : 1 << 20), large ? "GiB" : "MiB");
  return std::to_string(bytes) + " bytes (" + size + ")";
}

OutOfMemory::OutOfMemory(size_t bytes)
    : text_("the GPU has no room for " + with_size(bytes) +
            " more; pass fewer rows at a time, or free arrays and the caches of other libraries.") {
}

Api load_api() {
  const char* const named = std::getenv("GDCORE_CUDA_DRIVER");
  void* const library = dlopen(named ? named : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library && named)
    throw Unavailable(
        "GDCORE_CUDA_DRIVER names no driver that can be opened: " + std::string(dlerror()) + ".");
  if (!library)
    throw Unavailable(
        "no CUDA driver is installed here (libcuda.so.1 was not found); use the CPU, "
        "or install NVIDIA's driver.");
  Api api;
#define GDCORE_LOAD(name, args)                                           \
  api.name = reinterpret_cast<decltype(api.name)>(dlsym(library, #name)); \
  if (!api.name)                                                          \
    throw Unavailable("the CUDA driver is too old: it has no " #name      \
                      "; gdcore needs a driver of release 580 or later (CUDA 13.0).");
  GDCORE_CUDA_FUNCTIONS(GDCORE_LOAD)
#undef GDCORE_LOAD
  return api;
}

int ask(const Api& api, int ordinal, DeviceFacts& facts) {
  int error = api.cuDeviceGetName(facts.name, sizeof facts.name, ordinal);
  const auto attribute = [&](int which) {
    int value = 0;
    if (error == success) error = api.cuDeviceGetAttribute(&value, which, ordinal);
    return value;
  };
  constexpr int multiprocessors = 16, major = 75, minor = 76, shared_bytes_at_most = 97;
  facts.sm = 10 * attribute(major) + attribute(minor);
  facts.multiprocessors = attribute(multiprocessors);
  facts.shared_bytes = static_cast<size_t>(attribute(shared_bytes_at_most));
  return error == success ? api.cuDeviceTotalMem_v2(&facts.memory, ordinal) : error;
}

std::string cuda_version(const Api& api) {
  int version = 0;
  api.cuDriverGetVersion(&version);
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int initialize(const Api& api) {
  int version = 0, count = 0;
  if (api.cuDriverGetVersion(&version) == success && version < least_driver)
    throw Unavailable(
        "the CUDA driver is too old: it supports CUDA " + cuda_version(api) +
        ", and gdcore's kernels need 13.0; install a driver of release 580 or later.");
  const int error = api.cuInit(0);
  if (error == not_initialized) refuse_fork();  // by another library
  if (error != success || api.cuDeviceGetCount(&count) != success || count == 0) {
    const char* text = nullptr;
    api.cuGetErrorString(error, &text);
    throw Unavailable("the CUDA driver found no GPU that this process may use" +
                      (error && text ? " (" + std::string(text) + ")" : std::string()) +
                      "; use the CPU, or see nvidia-smi and CUDA_VISIBLE_DEVICES.");
  }
  return count;
}

const Api& api() {
  const Api* const ready = usable.load(std::memory_order_acquire);
  return ready ? *ready : open_or_explain();
}

const Api* api_if_open() noexcept { return open && !forked ? &opened_api : nullptr; }

void check(int error, const char* doing) {
  if (error == success) return;
  if (error == out_of_memory)
    throw OutOfMemory("the GPU's memory ran out while " + std::string(doing) +
                      "; free arrays and the caches of other libraries.");
  if (stays(error)) fail_for_good(error, doing);
  if (is_of_capture(error))
    throw std::runtime_error("CUDA does not allow " + std::string(doing) +
                             " while a graph is captured (" + described(error) +
                             "); capture matmul, mse, linear_mse and SGD steps only, on a stream "
                             "of their own, after one call that warms them up.");
  throw std::runtime_error("CUDA failed while " + std::string(doing) + ": " + described(error) +
                           ".");
}

}  // namespace gdcore::cuda
