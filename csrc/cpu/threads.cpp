#include "cpu/threads.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(_OPENMP)
#include <omp.h>
#endif
#include <pthread.h>
#if defined(__linux__)
#include "cpu/process_cpus.hpp"
#endif

namespace gdcore {
namespace {

// To share a task with a second thread costs about as much as this many fma on one.
constexpr int64_t work_per_thread = 1 << 16;

std::atomic<int> chosen_threads{0};  // by set_num_threads; 0: it was not called
std::atomic<bool> forked{false};
thread_local int scope_threads = 0;

// Smallest quota of this process's cgroup and its ancestors, in whole CPUs; 0: none.
int cgroup_quota() {
  int quota = 0;
  const auto take = [&](double period_share) {
    const int cpus = static_cast<int>(std::clamp(period_share, 1.0, double{max_threads}));
    if (quota == 0 || cpus < quota) quota = cpus;
  };
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    const bool unified = controllers.empty();
    if (!unified && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    while (true) {
      if (unified) {
        std::ifstream file(root + path + "/cpu.max");
        std::string limit;
        double period = 0;
        if (file >> limit >> period && limit != "max" && period > 0)
          take(std::atof(limit.c_str()) / period);
      } else {
        double limit = -1, period = 0;
        std::ifstream(root + path + "/cpu.cfs_quota_us") >> limit;
        std::ifstream(root + path + "/cpu.cfs_period_us") >> period;
        if (limit > 0 && period > 0) take(limit / period);
      }
      if (path.empty() || path == "/") break;
      path.resize(path.find_last_of('/'));
    }
  }
  return quota;
}

int affinity() {
#if defined(__linux__)
  if (const int cpus = CPU_COUNT(&process_cpus())) return cpus;
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

// A whole positive integer, or 0.
int positive(const char* text) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return end != text && *end == '\0' && value >= 1 && value <= max_threads ? static_cast<int>(value)
                                                                           : 0;
}

ThreadLimit limit_at_import() {
  ThreadLimit limit{affinity(), "CPUs this process may run on"};
  const auto lower = [&](int threads, const char* reason) {
    if (threads >= 1 && threads < limit.threads) limit = {threads, reason};
  };
  lower(cgroup_quota(), "CPU quota of the control group");
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const std::string first(text);  // may be a list, one entry a nesting level
    lower(positive(first.substr(0, first.find(',')).c_str()), "OMP_NUM_THREADS");
  }
  if (const char* text = std::getenv("GDCORE_NUM_THREADS")) {
    if (!positive(text))
      throw std::invalid_argument("GDCORE_NUM_THREADS is '" + std::string(text) +
                                  "'; set it to a whole number from 1 to 1024, or unset it.");
    lower(positive(text), "GDCORE_NUM_THREADS");
  }
#if defined(_OPENMP)
  lower(omp_get_thread_limit(), "OMP_THREAD_LIMIT");
#endif
  pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
  return limit;
}

}  // namespace

ThreadLimit thread_limit() {
  static const ThreadLimit at_import = limit_at_import();
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  if (chosen > 0) return {chosen, "set_num_threads"};
#if defined(_OPENMP)
  // What threadpoolctl and torch.set_num_threads change. The number of all CPUs that the runtime
  // knows is not a limit: a thread bound to a few CPUs may have loaded it.
  static const int cpus = omp_get_num_procs();
  if (const int most = omp_get_max_threads(); most < at_import.threads && most < cpus)
    return {most, "OpenMP's limit, set by threadpoolctl or torch"};
#endif
  return at_import;
}

int num_threads() { return scope_threads > 0 ? scope_threads : thread_limit().threads; }

void set_num_threads(int n) {
  chosen_threads.store(std::clamp(n, 0, max_threads), std::memory_order_relaxed);
}

ThreadScope::ThreadScope(int n) : saved_(scope_threads) {
  if (n > 0) scope_threads = std::min(n, max_threads);
}
ThreadScope::~ThreadScope() { scope_threads = saved_; }

Team threads_for(int64_t tasks, int64_t work) {
  const int64_t most = std::min(tasks, work / work_per_thread);
  return {most <= 1 ? 1 : static_cast<int>(std::min<int64_t>(most, num_threads())), work};
}

bool is_forked_child() { return forked.load(std::memory_order_relaxed); }

}  // namespace gdcore
