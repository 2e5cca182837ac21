// Runs parts of a task on threads. Bits never depend on their number.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/threads.hpp"

namespace gdcore {

// Does one part of a task. `thread` is below the team's number of threads, and no other part has
// the same one at the same time.
using Part = void (*)(void* context, int64_t part, int thread);

// Runs every part once, in the contract's floating-point mode, and rethrows what the first of
// those that threw has thrown. The calling thread takes part. Within a part that threads share with
// others, num_threads() is 1.
void run_parts(int64_t parts, Team team, Part part, void* context);

// body(begin, end, thread) for ranges that cover [0, n): several for each thread, so that the
// caller can do those that no other thread has begun.
template <class Body>
void parallel_for(int64_t n, Team team, Body&& body) {
  constexpr int64_t parts_per_thread = 8;
  struct Context {
    int64_t n, parts;
    Body* body;
  } context{n, team.threads == 1 ? 1 : std::min(n, parts_per_thread * team.threads), &body};
  run_parts(
      context.parts, team,
      [](void* raw, int64_t part, int thread) {
        auto& c = *static_cast<Context*>(raw);
        const int64_t begin = c.n * part / c.parts, end = c.n * (part + 1) / c.parts;
        (*c.body)(begin, end, thread);
      },
      &context);
}

}  // namespace gdcore
