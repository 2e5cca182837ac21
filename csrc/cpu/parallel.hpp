// Runs parts of a task on threads. Bits never depend on their number.
#pragma once

#include <cstdint>

namespace gdcore {

using std::int64_t;

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
