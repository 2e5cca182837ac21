#include "cuda/driver.hpp"

#include <exception>

#include "cuda/api.hpp"
#include "cuda/device_state.hpp"

namespace gdcore::cuda {
namespace {

// This thread's innermost Scope.
struct Here {
  Place place;
  DeviceState* device = nullptr;
};
thread_local Here here;

DeviceState& device_here() {
  if (!here.device) throw std::logic_error("an operation of the GPU ran outside a Scope");
  return *here.device;
}

Address address(const void* at) { return reinterpret_cast<Address>(at); }

std::string described(const char* kernel, int64_t blocks, int threads, size_t shared_bytes) {
  return "running " + std::string(kernel) + " (" + std::to_string(blocks) + " blocks of " +
         std::to_string(threads) + " threads, " + std::to_string(shared_bytes) +
         " bytes of shared memory each)";
}

// Streams of gdcore's own that this thread uses, one a device. Others take them over when it ends.
class OwnStreams {
 public:
  ~OwnStreams() {
    for (const auto& [device, stream] : streams_) {
      const std::lock_guard lock(device->mutex);
      device->idle_streams.push_back(stream);
    }
  }
  Stream of(DeviceState& device) {
    for (const auto& [known, stream] : streams_)
      if (known == &device) return stream;
    streams_.reserve(streams_.size() + 1);
    return streams_.emplace_back(&device, taken(device)).second;
  }
  bool has(Stream wanted) const {
    for (const auto& [device, stream] : streams_)
      if (stream == wanted) return true;
    return false;
  }

 private:
  static Stream taken(DeviceState& device) {
    const std::lock_guard lock(device.mutex);
    Stream stream = nullptr;
    if (!device.idle_streams.empty()) {
      stream = device.idle_streams.back();
      device.idle_streams.pop_back();
      return stream;
    }
    constexpr unsigned non_blocking = 1;
    const Context context(device);
    const Uncaptured uncaptured;
    check(api().cuStreamCreate(&stream, non_blocking), "making a stream");
    return stream;
  }

  std::vector<std::pair<DeviceState*, Stream>> streams_;
};
thread_local OwnStreams own_streams;

}  // namespace

Scope::Scope(Place wanted)
    : before_(here.place), device_before_(here.device), exceptions_(std::uncaught_exceptions()) {
  DeviceState& device = device_state(wanted.ordinal);
  check(api().cuCtxPushCurrent_v2(device.context), "using the device");
  here = {wanted, &device};
}
Scope::~Scope() {
  void* context;
  if (const Api* const driver = api_if_open()) {
    // An operation broke off. Kernels that are under way on gdcore's own stream still read arrays,
    // whose owners do not know of it and may give the memory back at once.
    if (std::uncaught_exceptions() > exceptions_ && own_streams.has(here.place.stream))
      driver->cuStreamSynchronize(here.place.stream);
    driver->cuCtxPopCurrent_v2(&context);
  }
  here = {before_, device_before_};
}

Place current() { return device_here(), here.place; }

int device_count() {
  int count = 0;
  check(api().cuDeviceGetCount(&count), "counting devices");
  return count;
}

const Properties& properties(int ordinal) { return device_state(ordinal).properties; }

int ordinal_of(const void* at) {
  constexpr int device_ordinal = 9;
  int ordinal = 0;
  const int error = api().cuPointerGetAttribute(&ordinal, device_ordinal, address(at));
  if (error == invalid_value)
    throw std::invalid_argument("the array is not in the memory of a GPU that CUDA knows.");
  check(error, "finding an array's device");
  return ordinal;
}

void refuse_managed(const void* at) {
  constexpr int is_managed = 8;
  unsigned managed = 0;  // the driver writes one byte or four
  const int error = api().cuPointerGetAttribute(&managed, is_managed, address(at));
  if (error != invalid_value) check(error, "asking about an array");
  if (managed)
    throw std::invalid_argument(
        "the array is in managed memory, which the host and the GPU both own; copy it to the GPU's "
        "own memory first.");
}

Place home_of(int ordinal) { return {ordinal, own_streams.of(device_state(ordinal))}; }
Place home_of(const void* at) { return home_of(ordinal_of(at)); }

Memory::Memory(size_t bytes) : place_(here.place) {
  if (bytes == 0) return;
  const DeviceState& device = device_here();
  const int error = api().cuMemAllocFromPoolAsync(&at_, bytes, device.pool, place_.stream);
  if (error == out_of_memory) throw OutOfMemory(bytes);
  check(error, "allocating memory");
}
Memory::~Memory() {
  const Api* const driver = at_ ? api_if_open() : nullptr;
  if (!driver) return;
  if (here.device && here.place.ordinal == place_.ordinal) {
    driver->cuMemFreeAsync(at_, place_.stream);
  } else {
    void* context = device_state(place_.ordinal).context;
    if (driver->cuCtxPushCurrent_v2(context) != success) return;
    driver->cuMemFreeAsync(at_, place_.stream);
    driver->cuCtxPopCurrent_v2(&context);
  }
}

void copy_to_device(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  const Stream stream = current().stream;
  check(api().cuMemcpyHtoDAsync_v2(address(to), from, bytes, stream), "copying to the GPU");
}
void copy_to_host(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  const Stream stream = current().stream;
  check(api().cuMemcpyDtoHAsync_v2(to, address(from), bytes, stream), "copying from the GPU");
}
void copy_on_device(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  const Stream stream = current().stream;
  check(api().cuMemcpyDtoDAsync_v2(address(to), address(from), bytes, stream),
        "copying on the GPU");
}

void synchronize() { check(api().cuStreamSynchronize(current().stream), "waiting for the GPU"); }
void synchronize(Place place) {
  const Scope scope(place);
  synchronize();
}

void wait_for(Stream other) {
  if (other == current().stream) return;
  constexpr unsigned no_timing = 2;
  void* event = nullptr;
  check(api().cuEventCreate(&event, no_timing), "ordering streams");
  int error = api().cuEventRecord(event, other);
  if (error == success) error = api().cuStreamWaitEvent(current().stream, event, 0);
  api().cuEventDestroy_v2(event);
  check(error, "ordering streams");
}

void launch(const char* kernel, int64_t blocks, int threads, size_t shared_bytes,
            const void* params) {
  if (blocks == 0) return;
  if (blocks > 0x7fffffff)
    throw std::length_error("the arrays are too large for one launch; pass fewer rows at a time.");
  Function& function = device_here().function(kernel);
  constexpr size_t shared_without_asking = 48 << 10;
  if (shared_bytes > shared_without_asking && shared_bytes > function.shared_bytes)
    device_here().grant_shared(function, shared_bytes);
  void* args[] = {const_cast<void*>(params)};
  const int error = api().cuLaunchKernel(
      function.handle, static_cast<unsigned>(blocks), 1, 1, static_cast<unsigned>(threads), 1, 1,
      static_cast<unsigned>(shared_bytes), here.place.stream, args, nullptr);
  if (error != success) check(error, described(kernel, blocks, threads, shared_bytes).c_str());
}

}  // namespace gdcore::cuda
