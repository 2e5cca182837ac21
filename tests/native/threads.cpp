// Checks the threads below parallel_for: each part once, a thread's number for one part at a time,
// the first error, tasks within parts, several callers, rests between tasks.
// Prints "right" or what is wrong. With an argument every thread takes part in every task.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cpu/parallel.hpp"

using gdcore::int64_t;
using gdcore::Team;

namespace {

void require(bool right, const char* what) {
  if (right) return;
  std::printf("%s\n", what);
  std::exit(1);
}

void work(int microseconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (std::chrono::steady_clock::now() < end) {
  }
}

// Plain memory, not atomic: ThreadSanitizer sees a part that two threads do, and a number that two
// threads have at a time.
void each_once(int64_t n, Team team, int microseconds) {
  std::vector<int> done(static_cast<size_t>(n));
  std::vector<int64_t> counts(static_cast<size_t>(team.threads));
  gdcore::parallel_for(n, team, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) ++done[static_cast<size_t>(i)];
    counts[static_cast<size_t>(thread)] += end - begin;
    require(team.threads == 1 || n == 1 || gdcore::num_threads() == 1, "a part may start threads");
    work(microseconds);
  });
  int64_t total = 0;
  for (const int64_t count : counts) total += count;
  require(total == n, "parts are missing or done twice");
  for (const int times : done) require(times == 1, "a part was not done once");
}

void first_error(Team team) {
  std::string caught;
  std::atomic<int> parts{0};
  try {
    gdcore::parallel_for(40, team, [&](int64_t begin, int64_t end, int) {
      parts += static_cast<int>(end - begin);
      if (end > 10) throw std::runtime_error(std::to_string(begin / 10));
    });
  } catch (const std::runtime_error& error) {
    caught = error.what();
  }
  require(team.threads == 1 || parts == 40, "an error ended other parts");
  require(caught == (team.threads == 1 ? "0" : "1"), "not the first error");
}

void within_parts(Team team) {
  std::atomic<int> done{0};
  gdcore::parallel_for(6, team, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      gdcore::parallel_for(5, team, [&](int64_t first, int64_t last, int) {
        done += static_cast<int>(last - first);
      });
  });
  require(done == 30, "tasks within parts lost some");
}

void caller(int seed) {
  unsigned state = static_cast<unsigned>(seed);
  for (int i = 0; i < 150; ++i) {
    state = state * 1664525u + 1013904223u;
    const int threads = 1 + static_cast<int>(state >> 28) % 5, rest = (state >> 20) % 3;
    const Team team{threads, state & 1 ? int64_t{1} << 24 : 1 << 17};
    each_once(static_cast<int64_t>((state >> 8) % 50), team, i % 10 == 0 ? 200 : 0);
    first_error(team);
    within_parts(team);
    if (rest == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
}

}  // namespace

int main(int argc, char**) {
  gdcore::set_num_threads(4);
  gdcore::let_everyone_take_part(argc > 1);
  std::vector<std::thread> callers;
  for (int seed = 1; seed < 4; ++seed) callers.emplace_back(caller, seed);
  caller(0);
  for (std::thread& thread : callers) thread.join();
  std::printf("right\n");
}
