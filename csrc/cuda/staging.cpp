#include "cuda/staging.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/api.hpp"
#include "cuda/driver.hpp"

namespace gdcore::cuda {
namespace {

constexpr size_t buffer_bytes = size_t{4} << 20;
// Fewer are left to the driver, which has a pinned buffer of its own.
constexpr size_t least_staged = size_t{256} << 10;

struct Buffer {
  void* at = nullptr;
  void* travelled = nullptr;  // the event behind its last copy

  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    const Api* const driver = api_if_open();
    if (driver && at) driver->cuMemFreeHost(at);
    if (driver && travelled) driver->cuEventDestroy_v2(travelled);
  }
  void open() {
    constexpr unsigned portable = 1, no_timing = 2;
    const int error = api().cuMemHostAlloc(&at, buffer_bytes, portable);
    if (error == out_of_memory)
      throw OutOfMemory("the host has no room for a pinned buffer of " + with_size(buffer_bytes) +
                        ", through which arrays travel to the GPU; free memory.");
    check(error, "pinning a buffer");
    check(api().cuEventCreate(&travelled, no_timing), "making an event");
  }
  void wait() const { check(api().cuEventSynchronize(travelled), "waiting for a copy"); }
  void sent() const { check(api().cuEventRecord(travelled, current().stream), "copying"); }
};

struct Pair {
  Buffer buffers[2];

  Pair() {
    for (Buffer& buffer : buffers) buffer.open();
  }
};

std::mutex mutex;
auto& idle = *new std::map<int, std::vector<std::unique_ptr<Pair>>>;  // by device; never ends

// A pair of buffers of the current device that nobody else uses; kept for the next one.
class Staging {
 public:
  Staging() : ordinal_(current().ordinal) {
    const std::lock_guard lock(mutex);
    auto& known = idle[ordinal_];
    known.reserve(known.size() + 1);
    if (known.empty()) return;
    pair_ = std::move(known.back());
    known.pop_back();
  }
  ~Staging() {
    if (!pair_) return;
    const std::lock_guard lock(mutex);
    idle[ordinal_].push_back(std::move(pair_));
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  Buffer& buffer(size_t turn) {
    if (!pair_) pair_ = std::make_unique<Pair>();
    return pair_->buffers[turn % 2];
  }

 private:
  int ordinal_;
  std::unique_ptr<Pair> pair_;
};

const char* at(const void* from, size_t bytes) { return static_cast<const char*>(from) + bytes; }
char* at(void* to, size_t bytes) { return static_cast<char*>(to) + bytes; }

}  // namespace

void upload(void* to, size_t bytes, const Fill& fill) {
  if (bytes < least_staged) {
    std::vector<char> pageable(bytes);
    fill(pageable.data(), 0, bytes);
    return copy_to_device(to, pageable.data(), bytes);
  }
  Staging staging;
  for (size_t first = 0, turn = 0; first < bytes; first += buffer_bytes, ++turn) {
    const size_t now = std::min(buffer_bytes, bytes - first);
    const Buffer& buffer = staging.buffer(turn);
    buffer.wait();
    fill(buffer.at, first, now);
    copy_to_device(at(to, first), buffer.at, now);
    buffer.sent();
  }
}

// Few bytes are copied first too: the source may be pinned, and the driver would read it later.
void upload(void* to, const void* from, size_t bytes) {
  upload(to, bytes, [from](void* buffer, size_t first, size_t count) {
    std::memcpy(buffer, at(from, first), count);
  });
}

void upload_rows(void* to, const void* from, int64_t rows, size_t row_bytes, int64_t stride_bytes) {
  const size_t bytes = static_cast<size_t>(rows) * row_bytes;
  if (stride_bytes == static_cast<int64_t>(row_bytes) || rows <= 1) return upload(to, from, bytes);
  upload(to, bytes, [=](void* buffer, size_t first, size_t count) {
    for (size_t done = 0; done < count;) {
      const size_t row = (first + done) / row_bytes, within = (first + done) % row_bytes;
      const size_t now = std::min(row_bytes - within, count - done);
      const char* const source = static_cast<const char*>(from) +
                                 static_cast<int64_t>(row) * stride_bytes +
                                 static_cast<int64_t>(within);
      std::memcpy(at(buffer, done), source, now);
      done += now;
    }
  });
}

void download(void* to, const void* from, size_t bytes) {
  if (bytes < least_staged) {
    copy_to_host(to, from, bytes);
    return synchronize();
  }
  Staging staging;
  const size_t turns = (bytes + buffer_bytes - 1) / buffer_bytes;
  const auto size_of = [&](size_t turn) {
    return std::min(buffer_bytes, bytes - turn * buffer_bytes);
  };
  for (size_t turn = 0; turn <= turns; ++turn) {  // each is sent one turn before it is emptied
    if (turn < turns) {
      const Buffer& buffer = staging.buffer(turn);
      buffer.wait();
      copy_to_host(buffer.at, at(from, turn * buffer_bytes), size_of(turn));
      buffer.sent();
    }
    if (turn == 0) continue;
    const Buffer& arrived = staging.buffer(turn - 1);
    arrived.wait();
    std::memcpy(at(to, (turn - 1) * buffer_bytes), arrived.at, size_of(turn - 1));
  }
}

}  // namespace gdcore::cuda
