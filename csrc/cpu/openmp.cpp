// The engine of -DGDCORE_THREADS=openmp: OpenMP's pool of threads.
#include <omp.h>

#include <algorithm>
#include <atomic>

#include "cpu/parts.hpp"
#include "fp_env.hpp"
#if defined(__linux__)
#include "cpu/process_cpus.hpp"
#endif

namespace gdcore {
namespace {

std::atomic<int> busy_threads{0};  // helpers running now, over all Python threads

// Grants the helpers that other Python threads leave free, or all if no other runs.
struct Helpers {
  explicit Helpers(int wanted) {
    const int before = busy_threads.fetch_add(wanted);
    granted = before == 0 ? wanted : std::clamp(thread_limit().threads - 1 - before, 0, wanted);
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

void run_on_engine(Parts& parts, Team team) {
  if (omp_in_parallel()) return parts.run(0);
  const Helpers helpers(team.threads - 1);
  if (helpers.granted == 0) return parts.run(0);
  // Spread, so that OMP_PROC_BIND=master does not put all of them on one CPU.
#pragma omp parallel num_threads(1 + helpers.granted) proc_bind(spread)
  {
    const FpEnv env;
    const ThreadScope alone(1);
#if defined(__linux__)
    if (omp_get_thread_num() > 0) leave_foreign_place();
#endif
    parts.run(omp_get_thread_num());
  }
}

bool let_everyone_take_part(bool) { return true; }
const char* thread_engine() { return "openmp"; }

}  // namespace gdcore
