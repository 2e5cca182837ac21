#include "state.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace emulation {
namespace {

constexpr size_t longest_queue = 512;

std::map<std::string, long long> options_of_environment() {
  std::map<std::string, long long> values = {
      {"order", 0},           // of threads between barriers: 0 forward, 1 backward, else a seed
      {"driver", 13000},      // the version of CUDA that the driver supports
      {"devices", 1},         //
      {"sm", 90},             // compute capability
      {"memory", 4LL << 30},  // of each device
      {"shared", 227 << 10},  // shared memory of a block at most
      {"pools", 1},           // whether memory pools are supported
      {"backward_mma", 0},    // see emulation.hpp
      {"fail_allocation", 0},
      {"fail_launch", 0},
      {"fail_push", 0},  // the k-th from now fails
      {"fail_launch_with", illegal_address},
  };
  for (auto& [name, value] : values) {
    std::string variable = "EMULATION_" + name;
    std::transform(variable.begin(), variable.end(), variable.begin(), ::toupper);
    if (const char* text = std::getenv(variable.c_str())) value = std::atoll(text);
  }
  return values;
}
std::map<std::string, long long>& options() {
  static auto& values = *new std::map(options_of_environment());
  return values;
}

}  // namespace

long long option(const std::string& name) { return options().at(name); }

bool comes_now(const std::string& name) {
  long long& left = options().at(name);
  return left > 0 && --left == 0;
}

void log(const char* format, ...) {
  static const char* const path = std::getenv("EMULATION_LOG");
  static std::FILE* const file = path ? std::fopen(path, "a") : nullptr;
  if (!file) return;
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(file, format, arguments);
  va_end(arguments);
  std::fputc('\n', file);
  std::fflush(file);
}

Graph::~Graph() {
  for (const Address at : blocks) device.memory.free(at);
}

std::vector<Stream*> Device::all_streams() {
  std::vector<Stream*> all = {&legacy};
  for (auto& [thread, stream] : per_thread) all.push_back(&stream);
  for (const auto& stream : streams) all.push_back(stream.get());
  return all;
}

Device& State::device(int ordinal) { return devices.try_emplace(ordinal, ordinal).first->second; }

bool State::is_pinned(const void* at, size_t bytes) const {
  auto found = pinned.upper_bound(const_cast<void*>(at));
  if (found == pinned.begin()) return false;
  --found;
  const char* const first = static_cast<char*>(found->first);
  return static_cast<const char*>(at) + bytes <= first + found->second;
}

State& state() {
  static auto& all = *new State;
  return all;
}

std::vector<Device*>& contexts() {
  thread_local std::vector<Device*> stack;
  return stack;
}

bool& relaxed() {
  thread_local bool is_relaxed = false;
  return is_relaxed;
}

Stream* stream_of(void* handle, Device& device) {
  const auto number = reinterpret_cast<uintptr_t>(handle);
  if (number <= 1) return &device.legacy;
  if (number == 2)
    return &device.per_thread.try_emplace(std::this_thread::get_id(), device, true).first->second;
  for (const auto& stream : device.streams)
    if (stream.get() == handle) return stream.get();
  return nullptr;
}

void drain(Stream& stream, long long position) {
  Device& device = stream.device;
  if (stream.done >= position) return;
  device.memory.open();
  while (stream.done < position) {
    const Task task = std::move(stream.tasks.front());
    stream.tasks.pop_front();
    ++stream.done;
    if (device.broken == 0) device.broken = task();
  }
  device.memory.close();
  if (device.memory.overrun() && device.broken == 0) device.broken = launch_failed;
}
void drain(Stream& stream) { drain(stream, stream.queued); }
void drain(Device& device) {
  for (Stream* const stream : device.all_streams()) drain(*stream);
}

int enqueue(Stream& stream, Task task) {
  if (stream.capture) {
    stream.capture->tasks.push_back(std::move(task));
    return success;
  }
  Device& device = stream.device;
  if (&stream == &device.legacy) {
    for (Stream* const other : device.all_streams()) {
      if (other->blocking && other->capture) return capture_implicit;
      if (other->blocking && other != &stream) drain(*other);
    }
  } else if (stream.blocking) {
    drain(device.legacy);
  }
  stream.tasks.push_back(std::move(task));
  ++stream.queued;
  if (stream.tasks.size() > longest_queue) drain(stream);
  return success;
}

int with_device(const std::function<int(Device&)>& f) {
  const std::lock_guard lock(state().mutex);
  if (state().process != getpid()) return not_initialized;
  if (contexts().empty()) return invalid_context;
  Device& device = *contexts().back();
  if (device.broken) return device.broken;
  return f(device);
}

int with_stream(void* handle, const std::function<int(Device&, Stream&)>& f) {
  return with_device([&](Device& device) {
    Stream* const stream = stream_of(handle, device);
    return stream ? f(device, *stream) : invalid_handle;
  });
}

int forbidden_in_captures(const char* what) {
  if (state().captures.empty() || relaxed()) return success;
  log("forbidden in a capture: %s", what);
  for (Graph* const graph : state().captures) graph->invalid = true;
  return capture_unsupported;
}

}  // namespace emulation

// For tests.
API int emulation_set(const char* name, long long value) {
  const std::lock_guard lock(emulation::state().mutex);
  const auto found = emulation::options().find(name);
  if (found == emulation::options().end()) return emulation::invalid_value;
  found->second = value;
  return emulation::success;
}
API long long emulation_get(const char* name) {
  const std::lock_guard lock(emulation::state().mutex);
  return emulation::option(name);
}
API size_t emulation_bytes_in_use() {
  const std::lock_guard lock(emulation::state().mutex);
  size_t bytes = 0;
  for (auto& [ordinal, device] : emulation::state().devices) {
    drain(device);
    bytes += device.memory.used();
  }
  return bytes;
}
