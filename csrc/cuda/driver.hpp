// What gdcore does with a GPU: places, memory, copies, launches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "cuda/errors.hpp"

namespace gdcore::cuda {

using Address = unsigned long long;
using Stream = void*;  // CUstream; null: the legacy default stream

// A device's number and a stream of it.
struct Place {
  int ordinal = 0;
  Stream stream = nullptr;
};

struct DeviceState;

// While it lives, this thread's kernels, copies and temporary memory are of this place.
class Scope {
 public:
  explicit Scope(Place place);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Place before_;
  DeviceState* device_before_;
  int exceptions_;  // under way when it began
};
Place current();  // the innermost Scope's; there must be one

// Where memory of a device lies, with a stream of gdcore's own that no other thread uses. It is not
// ordered with the default stream.
Place home_of(const void* device_address);
Place home_of(int ordinal);
int ordinal_of(const void* device_address);
// Throws std::invalid_argument for memory that the host and the device both own: the host must not
// touch it while a kernel runs, and gdcore does not wait for its kernels.
void refuse_managed(const void* device_address);

// What a device can do, asked once.
struct Properties {
  std::string name;
  int sm = 0;  // 90: compute capability 9.0
  int multiprocessors = 0;
  size_t memory = 0, shared_bytes = 0;  // shared_bytes: the most that a block may ask for
};
const Properties& properties(int ordinal);
int device_count();

// Temporary memory, allocated and given back in the order of the innermost Scope's stream. Calls of
// it can be captured in a graph.
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
  Place place_;
};

// In the order of the stream. A copy to the host has arrived after synchronize(), a copy to the
// device has read its source, which is not pinned, on return. For arrays see staging.hpp.
void copy_to_device(void* to, const void* from, size_t bytes);
void copy_to_host(void* to, const void* from, size_t bytes);
void copy_on_device(void* to, const void* from, size_t bytes);
void synchronize();
void synchronize(Place place);
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
