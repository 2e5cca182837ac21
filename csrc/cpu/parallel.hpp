// The one place for threads. Bits never depend on what happens here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

namespace gdcore {

using std::int64_t;

struct ThreadLimit {
  int threads;
  const char* reason;
};
// Threads the calling thread may use: what set_num_threads chose, else the least of the CPUs of the
// process, cgroup quota, OMP_NUM_THREADS, OMP_THREAD_LIMIT, GDCORE_NUM_THREADS (all at the first
// call), and the OpenMP runtime's own limit (now).
// Throws std::invalid_argument if GDCORE_NUM_THREADS is not a positive integer.
ThreadLimit thread_limit();

int num_threads();            // of the calling thread's next region
void set_num_threads(int n);  // for the process; 0: as if it had never been called

// Overrides num_threads() in this thread while alive; 0 leaves it as it is.
class ThreadScope {
 public:
  explicit ThreadScope(int n);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int saved_;
};

// Threads worth starting for `work` (about one unit an fma or 4 bytes), at most `tasks`.
int threads_for(int64_t tasks, int64_t work);

using Region = void (*)(void* context, int thread, int threads);
// Runs region(context, t, threads) for each t < threads, in the contract's floating-point mode, and
// rethrows what one of them threw. After a fork, in a nested call and without OpenMP the parts run
// one by one.
void run_region(int threads, Region region, void* context);

// body(begin, end, thread) over a split of [0, n) into `threads` ranges.
template <class Body>
void parallel_for(int64_t n, int threads, Body&& body) {
  struct Context {
    int64_t n;
    Body* body;
  } context{n, &body};
  run_region(
      threads,
      [](void* raw, int thread, int count) {
        auto& c = *static_cast<Context*>(raw);
        (*c.body)(c.n* thread / count, c.n * (thread + 1) / count, thread);
      },
      &context);
}

}  // namespace gdcore
