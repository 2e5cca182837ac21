// libcuda on this CPU: memory of devices, pinned memory, copies.
#include <cstdlib>
#include <cstring>

#include "state.hpp"

namespace {

using namespace emulation;

// A larger copy from pageable memory waits for its turn instead of keeping its source.
constexpr size_t largest_kept = 1 << 20;

void* pointer(Address at) { return reinterpret_cast<void*>(at); }

int allocate(Device& device, Address* at, size_t bytes, bool managed = false) {
  if (bytes == 0) return invalid_value;
  const bool fails = comes_now("fail_allocation");
  const auto total = static_cast<size_t>(option("memory"));
  if (device.memory.used() + bytes > total) drain(device);  // what was freed may not be free yet
  if (fails || device.memory.used() + bytes > total) return out_of_memory;
  *at = device.memory.allocate(bytes, managed);
  return *at ? success : out_of_memory;
}

int allocate(Device& device, Stream& stream, Address* at, size_t bytes) {
  if (const int error = allocate(device, at, bytes)) return error;
  if (!stream.capture) return success;
  stream.capture->blocks.push_back(*at);  // the graph's: each launch finds NaNs in it
  return enqueue(stream, [&device, block = *at] {
    device.memory.poison(block);
    return static_cast<int>(success);
  });
}

int move_bytes(Device& device, Stream& stream, void* to, const void* from, size_t bytes,
               Address device_side) {
  return enqueue(stream, [&device, to, from, bytes, device_side] {
    if (!device.memory.holds(device_side, bytes)) return static_cast<int>(illegal_address);
    std::memmove(to, from, bytes);
    return static_cast<int>(success);
  });
}

int copy_in(Device& device, Stream& stream, Address to, const void* from, size_t bytes) {
  if (!device.memory.holds(to, bytes)) return invalid_value;
  if (stream.capture) return forbidden_in_captures("a copy from the host");
  if (state().is_pinned(from, bytes))
    return move_bytes(device, stream, pointer(to), from, bytes, to);
  if (bytes > largest_kept) {
    const int error = move_bytes(device, stream, pointer(to), from, bytes, to);
    drain(stream);
    return error;
  }
  const auto* const first = static_cast<const char*>(from);
  return enqueue(stream, [&device, to, kept = std::vector<char>(first, first + bytes)] {
    if (!device.memory.holds(to, kept.size())) return static_cast<int>(illegal_address);
    std::memcpy(pointer(to), kept.data(), kept.size());
    return static_cast<int>(success);
  });
}

int copy_out(Device& device, Stream& stream, void* to, Address from, size_t bytes) {
  if (!device.memory.holds(from, bytes)) return invalid_value;
  if (stream.capture) return forbidden_in_captures("a copy to the host");
  const int error = move_bytes(device, stream, to, pointer(from), bytes, from);
  if (!state().is_pinned(to, bytes)) drain(stream);
  return error ? error : device.broken;
}

int synchronously(Device& device, int error) {
  if (error) return error;
  drain(device.legacy);
  return device.broken;
}

}  // namespace

API int cuMemPoolCreate(void** pool, const void*) {
  return with_device([&](Device& device) {
    if (!option("pools")) return not_supported;
    *pool = &device;
    return success;
  });
}
API int cuMemPoolSetAttribute(void*, int, void*) { return success; }
API int cuMemAllocFromPoolAsync(Address* at, size_t bytes, void* pool, void* stream) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    log("allocate %zu stream %p", bytes, stream);
    return pool == &device ? allocate(device, of, at, bytes) : static_cast<int>(invalid_value);
  });
}
API int cuMemAllocAsync(Address* at, size_t bytes, void* stream) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    log("allocate %zu stream %p", bytes, stream);
    return option("pools") ? allocate(device, of, at, bytes) : static_cast<int>(not_supported);
  });
}
API int cuMemFreeAsync(Address at, void* stream) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    log("free stream %p", stream);
    if (!device.memory.holds(at, 1)) return static_cast<int>(invalid_value);
    if (of.capture) return static_cast<int>(success);  // with the graph
    return enqueue(of, [&device, at] { return device.memory.free(at) ? success : invalid_value; });
  });
}
API int cuMemAlloc_v2(Address* at, size_t bytes) {
  return with_device([&](Device& device) {
    if (const int error = forbidden_in_captures("cuMemAlloc")) return error;
    return allocate(device, at, bytes);
  });
}
API int cuMemAllocManaged(Address* at, size_t bytes, unsigned) {
  return with_device([&](Device& device) {
    if (const int error = forbidden_in_captures("cuMemAllocManaged")) return error;
    return allocate(device, at, bytes, true);
  });
}
API int cuMemFree_v2(Address at) {
  return with_device([&](Device& device) {
    if (const int error = forbidden_in_captures("cuMemFree")) return error;
    drain(device);
    return static_cast<int>(device.memory.free(at) ? success : invalid_value);
  });
}
API int cuMemGetInfo_v2(size_t* free, size_t* total) {
  return with_device([&](Device& device) {
    *total = static_cast<size_t>(option("memory"));
    *free = *total - device.memory.used();
    return success;
  });
}
API int cuMemHostAlloc(void** at, size_t bytes, unsigned) {
  return with_device([&](Device&) {
    if (const int error = forbidden_in_captures("cuMemHostAlloc")) return error;
    if (comes_now("fail_allocation")) return static_cast<int>(out_of_memory);
    *at = std::malloc(bytes);
    state().pinned[*at] = bytes;
    return static_cast<int>(success);
  });
}
API int cuMemFreeHost(void* at) {
  return with_device([&](Device&) {
    if (state().pinned.erase(at) == 0) return invalid_value;
    std::free(at);
    return success;
  });
}

API int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    log("copy to device %zu stream %p", bytes, stream);
    return copy_in(device, of, to, from, bytes);
  });
}
API int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    log("copy to host %zu stream %p", bytes, stream);
    return copy_out(device, of, to, from, bytes);
  });
}
API int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream) {
  return with_stream(stream, [&](Device& device, Stream& of) {
    log("copy on device %zu stream %p", bytes, stream);
    if (!device.memory.holds(to, bytes) || !device.memory.holds(from, bytes))
      return static_cast<int>(invalid_value);
    return move_bytes(device, of, pointer(to), pointer(from), bytes, to);
  });
}
API int cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
  return with_stream(nullptr, [&](Device& device, Stream& of) {
    if (const int error = forbidden_in_captures("cuMemcpyHtoD")) return error;
    return synchronously(device, copy_in(device, of, to, from, bytes));
  });
}
API int cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
  return with_stream(nullptr, [&](Device& device, Stream& of) {
    if (const int error = forbidden_in_captures("cuMemcpyDtoH")) return error;
    return synchronously(device, copy_out(device, of, to, from, bytes));
  });
}

API int cuPointerGetAttribute(void* value, int which, Address at) {
  constexpr int is_managed = 8, ordinal = 9;
  const std::lock_guard lock(state().mutex);
  for (auto& [number, device] : state().devices) {
    if (!device.memory.holds(at, 1)) continue;
    if (which == ordinal) *static_cast<int*>(value) = number;
    if (which == is_managed) *static_cast<bool*>(value) = device.memory.is_managed(at);
    return which == ordinal || which == is_managed ? success : invalid_value;
  }
  return invalid_value;
}
