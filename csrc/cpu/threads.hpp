// How many threads a region may have. Bits never depend on it.
#pragma once

#include <cstdint>

namespace gdcore {

using std::int64_t;

constexpr int max_threads = 1024;

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

// Overrides num_threads() in this thread while alive; 0 changes nothing.
class ThreadScope {
 public:
  explicit ThreadScope(int n);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int saved_;
};

// The threads for a task, and its work: about one unit an fma or 4 bytes.
struct Team {
  int threads;
  int64_t work;

  operator int() const { return threads; }
};

// Threads worth having for `work`, at most `tasks`.
Team threads_for(int64_t tasks, int64_t work);

// "pool" or "openmp": which threads run the parts of a task.
const char* thread_engine();
// For tests: whether every thread of a team takes part in every task, however small it is. With
// OpenMP all do. Returns the choice before.
bool let_everyone_take_part(bool choice);

// True in a child that was forked after the first call of thread_limit().
bool is_forked_child();

}  // namespace gdcore
