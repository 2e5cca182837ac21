// What this process keeps of each device: its context, pool of memory, kernels and streams. Looking
// things up takes no lock; whatever is missing is made under one.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/api.hpp"
#include "cuda/driver.hpp"

namespace gdcore::cuda {

struct Function {
  std::string name;
  void* handle = nullptr;
  std::atomic<size_t> shared_bytes{0};  // granted
};

// The kernels of one device by name.
class Functions {
 public:
  // Null if it was not looked up before.
  Function* find(const char* name) const;
  Function& add(const char* name, void* handle);  // under the device's lock

 private:
  static constexpr size_t slots = 1024;  // a few times the number of kernels
  static size_t hash(const char* name);
  std::array<std::atomic<Function*>, slots> slots_{};
};

struct DeviceState {
  int ordinal = 0;
  void *context = nullptr, *pool = nullptr;
  Properties properties;

  std::mutex mutex;  // guards all below, but for finding a function
  void* module = nullptr;
  Functions functions;
  std::vector<Stream> idle_streams;

  Function& function(const char* name);
  void grant_shared(Function& function, size_t bytes);
};

// Opens the device if it has not been.
DeviceState& device_state(int ordinal);

// While it lives, the context of that device is this thread's.
class Context {
 public:
  explicit Context(const DeviceState& device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
};

// While it lives, this thread may do what a capture of another stream forbids by default.
class Uncaptured {
 public:
  Uncaptured() { exchange(); }
  ~Uncaptured() { exchange(); }
  Uncaptured(const Uncaptured&) = delete;
  Uncaptured& operator=(const Uncaptured&) = delete;

 private:
  void exchange();
  int mode_ = 2;  // CU_STREAM_CAPTURE_MODE_RELAXED
};

}  // namespace gdcore::cuda
