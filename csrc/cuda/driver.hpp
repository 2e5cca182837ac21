// The CUDA driver, opened on first use: building this takes no header, library or compiler of
// CUDA's, and importing gdcore touches nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace gdcore::cuda {

using Address = unsigned long long;
using Stream = void*;  // CUstream; null: the legacy default stream

// No driver, too old a driver, no GPU, no kernels: why, as a sentence.
struct Unavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct OutOfMemory : std::bad_alloc {
  explicit OutOfMemory(size_t bytes);
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

// A device's number and a stream of it.
struct Place {
  int ordinal = 0;
  Stream stream = nullptr;
};

// While it lives, this thread's kernels, copies and temporary memory are of this place.
class Scope {
 public:
  explicit Scope(Place place);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Place before_;
  bool nested_;
};
Place current();  // the innermost Scope's; there must be one

// Where memory of a device lies, with gdcore's own stream of that device.
Place home_of(const void* device_address);
int ordinal_of(const void* device_address);

// What a device can do, asked once.
struct Properties {
  std::string name;
  int sm = 0;  // 90: compute capability 9.0
  int multiprocessors = 0;
  size_t memory = 0, shared_bytes = 0;  // shared_bytes: the most that a block may ask for
};
const Properties& properties(int ordinal);
int device_count();

// Temporary memory, given back in the order of the stream.
class Memory {
 public:
  explicit Memory(size_t bytes);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(at_);
  }

 private:
  Address at_ = 0;
  Stream stream_;
};

// In the order of the stream. A copy to the host has arrived after synchronize(), a copy to the
// device has read its source on return.
void copy_to_device(void* to, const void* from, size_t bytes);
void copy_to_host(void* to, const void* from, size_t bytes);
void copy_on_device(void* to, const void* from, size_t bytes);
void synchronize();
// Orders what follows here behind all that another stream of this device has been asked for.
void wait_for(Stream other);

// Runs blocks of `threads` threads, with `shared_bytes` of dynamic shared memory each.
void launch(const char* kernel, int64_t blocks, int threads, size_t shared_bytes,
            const void* params);

template <class Params>
void launch(const char* kernel, int64_t blocks, int threads, size_t shared_bytes,
            const Params& params) {
  static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= 4000,
                "a kernel takes one struct of less than 4 KB");
  launch(kernel, blocks, threads, shared_bytes, static_cast<const void*>(&params));
}

}  // namespace gdcore::cuda
