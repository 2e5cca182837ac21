#include "cuda/device_state.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "cuda/fatbin.hpp"

namespace gdcore::cuda {
namespace {

constexpr int most_devices = 128;
std::array<std::atomic<DeviceState*>, most_devices> opened{};
std::mutex opening;

// A pool keeps so much of what was given back: small calls, which wait for their results each time,
// then find their memory mapped. More would starve other libraries.
constexpr uint64_t bytes_kept = uint64_t{64} << 20;

struct PoolProperties {                       // CUmemPoolProps
  int allocation_type = 1, handle_types = 0;  // pinned to the device; not shared
  int location_type = 1, location;
  void* security = nullptr;
  size_t most_bytes = 0;
  unsigned short usage = 0;
  unsigned char reserved[54] = {};
};
static_assert(sizeof(PoolProperties) == 88, "the driver's layout");

void* new_pool(int ordinal) {
  constexpr int release_threshold = 4;
  PoolProperties wanted{};
  wanted.location = ordinal;
  void* pool = nullptr;
  const int error = api().cuMemPoolCreate(&pool, &wanted);
  if (error == not_supported)
    throw Unavailable(
        "this GPU's driver has no memory pools (cuMemAllocAsync), which gdcore "
        "needs; virtual GPUs need unified memory switched on for them.");
  check(error, "making a pool of memory");
  uint64_t kept = bytes_kept;
  check(api().cuMemPoolSetAttribute(pool, release_threshold, &kept), "making a pool of memory");
  return pool;
}

Properties properties_of(int ordinal) {
  DeviceFacts facts{};
  check(ask(api(), ordinal, facts), "asking the device");
  return {facts.name, facts.sm, facts.multiprocessors, facts.memory, facts.shared_bytes};
}

void check_ordinal(int ordinal) {
  const int count = device_count();
  if (ordinal >= 0 && ordinal < std::min(count, most_devices)) return;
  throw std::invalid_argument("there is no GPU " + std::to_string(ordinal) +
                              "; this process sees " + std::to_string(count) +
                              ", numbered from 0.");
}

DeviceState& open(int ordinal) {
  check_ordinal(ordinal);
  const std::lock_guard lock(opening);
  std::atomic<DeviceState*>& place = opened[static_cast<size_t>(ordinal)];
  if (DeviceState* const known = place) return *known;
  auto state = std::make_unique<DeviceState>();
  state->ordinal = ordinal;
  state->properties = properties_of(ordinal);
  const Uncaptured uncaptured;
  check(api().cuDevicePrimaryCtxRetain(&state->context, ordinal), "opening the device");
  const Context context(*state);
  state->pool = new_pool(ordinal);
  place = state.get();
  return *state.release();  // for as long as the process lives
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

void* load(const Properties& properties) {
  const std::vector<char> image = read_fatbin();
  void* module = nullptr;
  const int error = api().cuModuleLoadData(&module, image.data());
  if (error == no_binary_for_gpu || error == unsupported_ptx_version)
    throw Unavailable("gdcore's kernels (" + listed(architectures_of(image)) +
                      ") cannot run on this GPU, " + properties.name + " with sm_" +
                      std::to_string(properties.sm) +
                      "; use the CPU, or a newer driver and a build of gdcore for it.");
  check(error, "loading the kernels");
  return module;
}

}  // namespace

size_t Functions::hash(const char* name) {
  uint64_t h = 0xcbf29ce484222325;  // FNV-1a
  for (; *name; ++name) h = (h ^ static_cast<unsigned char>(*name)) * 0x100000001b3;
  return static_cast<size_t>(h ^ h >> 32) % slots;
}

Function* Functions::find(const char* name) const {
  for (size_t at = hash(name);; at = (at + 1) % slots) {
    Function* const there = slots_[at].load(std::memory_order_acquire);
    if (!there || std::strcmp(there->name.c_str(), name) == 0) return there;
  }
}

Function& Functions::add(const char* name, void* handle) {
  size_t at = hash(name);
  while (slots_[at]) at = (at + 1) % slots;
  auto* const made = new Function{name, handle};
  slots_[at].store(made, std::memory_order_release);
  return *made;
}

Function& DeviceState::function(const char* name) {
  if (Function* const known = functions.find(name)) return *known;
  const std::lock_guard lock(mutex);
  if (Function* const known = functions.find(name)) return *known;
  const Uncaptured uncaptured;
  if (!module) module = load(properties);
  void* handle = nullptr;
  const int error = api().cuModuleGetFunction(&handle, module, name);
  if (error == not_found)
    throw Unavailable("gdcore's file of kernels has no " + std::string(name) +
                      ": it is of another version; install gdcore again.");
  check(error, "loading the kernels");
  return functions.add(name, handle);
}

void DeviceState::grant_shared(Function& function, size_t bytes) {
  if (bytes > properties.shared_bytes)
    throw Unavailable(function.name + " needs " + std::to_string(bytes) +
                      " bytes of shared memory a block, and this GPU, " + properties.name +
                      ", has " + std::to_string(properties.shared_bytes) + "; use the CPU.");
  constexpr int dynamic_shared_bytes = 8;
  const std::lock_guard lock(mutex);
  if (bytes <= function.shared_bytes) return;
  check(api().cuFuncSetAttribute(function.handle, dynamic_shared_bytes, static_cast<int>(bytes)),
        "asking for shared memory");
  function.shared_bytes = bytes;
}

DeviceState& device_state(int ordinal) {
  if (ordinal >= 0 && ordinal < most_devices)
    if (DeviceState* const known = opened[static_cast<size_t>(ordinal)].load()) return *known;
  return open(ordinal);
}

Context::Context(const DeviceState& device) {
  check(api().cuCtxPushCurrent_v2(device.context), "using the device");
}
Context::~Context() {
  void* context;
  if (const Api* const driver = api_if_open()) driver->cuCtxPopCurrent_v2(&context);
}

void Uncaptured::exchange() {
  if (const Api* const driver = api_if_open()) driver->cuThreadExchangeStreamCaptureMode(&mode_);
}

}  // namespace gdcore::cuda
