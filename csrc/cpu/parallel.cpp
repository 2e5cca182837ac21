#include "cpu/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <vector>

#include "cpu/threads.hpp"
#include "fp_env.hpp"
#if defined(_OPENMP)
#include <omp.h>
#if defined(__linux__)
#include "cpu/process_cpus.hpp"
#endif
#endif

namespace gdcore {
#if defined(_OPENMP)
namespace {

std::atomic<int> busy_threads{0};  // helpers running now, over all Python threads

// Grants the helpers that other Python threads leave free, or all if no other runs.
struct Helpers {
  explicit Helpers(int wanted) {
    const int before = busy_threads.fetch_add(wanted);
    granted = before == 0 ? wanted : std::clamp(num_threads() - 1 - before, 0, wanted);
    busy_threads.fetch_sub(wanted - granted);
  }
  ~Helpers() { busy_threads.fetch_sub(granted); }
  Helpers(const Helpers&) = delete;
  Helpers& operator=(const Helpers&) = delete;
  int granted;
};

#if defined(__linux__)
// Lets a pool thread run on all CPUs of the process. If another runtime had bound the loading
// thread to one place, this runtime took that place for all CPUs.
void leave_foreign_place() {
  static const bool confined = [] {
    cpu_set_t own;
    CPU_ZERO(&own);
    add_cpus(own, {omp_get_num_places, omp_get_place_num_procs, omp_get_place_proc_ids});
    return CPU_COUNT(&own) > 0 && !CPU_EQUAL(&own, &process_cpus());
  }();
  thread_local bool left = false;
  if (!confined || left) return;
  left = true;
  sched_setaffinity(0, sizeof(cpu_set_t), &process_cpus());
}
#endif

}  // namespace
#endif

void run_region(int threads, Region region, void* context) {
  const auto serial = [&] {
    FpEnv env;
    for (int t = 0; t < threads; ++t) region(context, t, threads);
  };
  if (threads <= 1) return serial();
#if defined(_OPENMP)
  // libgomp hangs in a child forked after its pool was made, and each Python thread would get a
  // pool of its own.
  if (is_forked_child() || omp_in_parallel()) return serial();
  std::vector<std::exception_ptr> errors(static_cast<size_t>(threads));
  const Helpers helpers(threads - 1);
  if (helpers.granted == 0) return serial();
  // Spread, so that OMP_PROC_BIND=master does not put all of them on one CPU.
#pragma omp parallel num_threads(1 + helpers.granted) proc_bind(spread)
  {
    FpEnv env;
#if defined(__linux__)
    if (omp_get_thread_num() > 0) leave_foreign_place();
#endif
    // With fewer threads than parts, a thread runs several parts.
    for (int t = omp_get_thread_num(); t < threads; t += omp_get_num_threads()) {
      try {
        region(context, t, threads);
      } catch (...) {
        errors[static_cast<size_t>(t)] = std::current_exception();
      }
    }
  }
  for (const auto& error : errors)
    if (error) std::rethrow_exception(error);
#else
  serial();
#endif
}

}  // namespace gdcore
