// The parts of a task, for the threads that do them.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <vector>

#include "cpu/parallel.hpp"

namespace gdcore {

class Parts {
 public:
  Parts(int64_t count, int threads, Part part, void* context)
      : part_(part), context_(context), shares_(static_cast<size_t>(threads)) {
    for (int t = 0; t < threads; ++t) {
      shares_[t].next.store(count * t / threads, std::memory_order_relaxed);
      shares_[t].end = count * (t + 1) / threads;
    }
  }

  // Does parts until all are begun: those of the thread's own share, which stay in its cache from
  // task to task, then those of the others.
  void run(int thread) {
    const size_t threads = shares_.size();
    for (size_t i = 0; i < threads; ++i) {
      Share& share = shares_[(static_cast<size_t>(thread) + i) % threads];
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const int64_t part = share.next.fetch_add(1, std::memory_order_relaxed);
        if (part < share.end) run_one(part, thread);
      }
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  void run_one(int64_t part, int thread) {
    try {
      part_(context_, part, thread);
    } catch (...) {
      const std::lock_guard lock(failing_);
      if (part < failed_) error_ = std::current_exception(), failed_ = part;
    }
  }

  const Part part_;
  void* const context_;
  std::vector<Share> shares_;
  std::mutex failing_;
  int64_t failed_ = std::numeric_limits<int64_t>::max();
  std::exception_ptr error_;
};

// Runs the parts on the calling thread and on others; what an engine does.
void run_on_engine(Parts& parts, Team team);

}  // namespace gdcore
