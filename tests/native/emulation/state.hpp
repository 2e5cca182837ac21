// What the emulated driver knows: options, devices with their memory, streams and graphs.
//
// Work is asynchronous: a stream keeps its tasks until somebody waits for it, for an event behind
// them, or for a stream that is ordered after it. So results that are read too early, and sources
// of copies that are reused too early, are wrong.
#pragma once

#include <cstdarg>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "memory.hpp"

namespace emulation {

enum Error {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  no_device = 100,
  invalid_device = 101,
  invalid_context = 201,
  no_binary_for_gpu = 209,
  invalid_handle = 400,
  not_found = 500,
  not_ready = 600,
  illegal_address = 700,
  launch_failed = 719,
  not_supported = 801,
  capture_unsupported = 900,
  capture_invalidated = 901,
  capture_implicit = 906,
};

// EMULATION_NAME in the environment when the driver starts; emulation_set changes it.
long long option(const std::string& name);
// Counts down option `name`: true when it reaches zero, that is for the k-th caller.
bool comes_now(const std::string& name);
// One line of the file that EMULATION_LOG names.
void log(const char* format, ...) __attribute__((format(printf, 1, 2)));

using Task = std::function<int()>;  // returns an error that breaks the device

struct Device;

struct Graph {
  Device& device;
  std::vector<Task> tasks;
  std::vector<Address> blocks;  // allocated by it
  bool invalid = false;

  explicit Graph(Device& d) : device(d) {}
  ~Graph();
};

struct Stream {
  Device& device;
  bool blocking;  // ordered with the legacy default stream
  std::deque<Task> tasks;
  long long queued = 0, done = 0;
  std::shared_ptr<Graph> capture;

  Stream(Device& d, bool b) : device(d), blocking(b) {}
};

struct Event {
  Stream* stream = nullptr;
  long long position = 0;
};

struct Device {
  int ordinal;
  int broken = 0;  // an error that stays
  Memory memory;
  Stream legacy;
  std::map<std::thread::id, Stream> per_thread;
  std::set<std::unique_ptr<Stream>> streams;

  explicit Device(int o) : ordinal(o), legacy(*this, true) {}
  std::vector<Stream*> all_streams();
};

struct State {
  std::recursive_mutex mutex;
  int process = 0;  // that called cuInit
  std::map<int, Device> devices;
  std::map<void*, size_t> pinned;
  std::set<Graph*> captures;  // under way

  Device& device(int ordinal);
  bool is_pinned(const void* at, size_t bytes) const;
};
State& state();

std::vector<Device*>& contexts();          // this thread's stack of them
bool& relaxed();                           // this thread may call anything during captures
Stream* stream_of(void* handle, Device&);  // null if it is not of that device

// Runs tasks up to that position, or all.
void drain(Stream& stream);
void drain(Stream& stream, long long position);
void drain(Device& device);
// Appends a task to a stream, or to the graph that it captures.
int enqueue(Stream& stream, Task task);

// Runs f with the device of the current context, unless something is wrong with it already.
int with_device(const std::function<int(Device&)>& f);
// The same with the stream of that handle.
int with_stream(void* handle, const std::function<int(Device&, Stream&)>& f);
// An error if a capture is under way that this call would break.
int forbidden_in_captures(const char* what);

}  // namespace emulation

#define API extern "C" __attribute__((visibility("default")))
