// What one library says of itself, behind the C interface that peer.cpp gives every peer.
#pragma once

#include <cstdint>

namespace peer {

using std::int64_t;

// `repeats` times c = a @ b for each problem of the batch, all of them C-contiguous, on at most
// `threads` threads.
struct Task {
  int64_t batch, m, n, k;
  int threads;
  int64_t repeats;
};

// Whether the library can do it. Defined for float and double by each peer.
template <class T>
bool multiply(const Task& task, const T* a, const T* b, T* c);

const char* version();

// body(begin, end) over a static split of the batch, on task.threads threads.
template <class Body>
void split_batch(const Task& task, Body&& body) {
#pragma omp parallel for schedule(static, 1) num_threads(task.threads) if (task.threads > 1)
  for (int t = 0; t < task.threads; ++t)
    body(task.batch * t / task.threads, task.batch * (t + 1) / task.threads);
}

}  // namespace peer
