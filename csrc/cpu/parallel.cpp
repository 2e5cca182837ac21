#include "cpu/parallel.hpp"

#include <atomic>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "fp_env.hpp"
#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#endif

namespace gdcore {
namespace {

// Starting and joining a second thread costs about as much as this many fma on one.
constexpr int64_t work_per_thread = 1 << 16;
constexpr int max_threads = 1024;

std::atomic<int> process_threads{0};  // 0: not asked yet
#if defined(_OPENMP)
std::atomic<int> busy_threads{0};  // helpers running now, over all Python threads

// As many of the wanted helpers as other Python threads leave free, all of them if nobody else is
// at work.
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
#endif
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
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

// A whole positive integer, or 0.
int positive(const char* text) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return end != text && *end == '\0' && value >= 1 && value <= max_threads ? static_cast<int>(value)
                                                                           : 0;
}

}  // namespace

ThreadLimit thread_limit() {
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
#if !defined(_OPENMP)
  limit = {1, "built without OpenMP"};
#endif
  return limit;
}

int num_threads() {
  if (scope_threads > 0) return scope_threads;
  int n = process_threads.load(std::memory_order_relaxed);
  if (n == 0) {
    n = thread_limit().threads;
    process_threads.store(n, std::memory_order_relaxed);
#if defined(__linux__)
    static const int once = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
    static_cast<void>(once);
#endif
  }
  return n;
}

void set_num_threads(int n) {
  num_threads();
  process_threads.store(std::clamp(n, 1, max_threads), std::memory_order_relaxed);
}

ThreadScope::ThreadScope(int n) : saved_(scope_threads) {
  if (n > 0) scope_threads = std::min(n, max_threads);
}
ThreadScope::~ThreadScope() { scope_threads = saved_; }

int threads_for(int64_t tasks, int64_t work) {
  const int wanted = num_threads();
  if (wanted == 1) return 1;
  return static_cast<int>(
      std::max<int64_t>(1, std::min({int64_t{wanted}, tasks, work / work_per_thread})));
}

void run_region(int threads, Region region, void* context) {
  const auto serial = [&] {
    FpEnv env;
    for (int t = 0; t < threads; ++t) region(context, t, threads);
  };
  if (threads <= 1) return serial();
#if defined(_OPENMP)
  // libgomp hangs in a child forked after its pool was made, and each Python thread would get a
  // pool of its own.
  if (forked.load(std::memory_order_relaxed) || omp_in_parallel()) return serial();
  std::vector<std::exception_ptr> errors(static_cast<size_t>(threads));
  const Helpers helpers(threads - 1);
  if (helpers.granted == 0) return serial();
#pragma omp parallel num_threads(1 + helpers.granted)
  {
    FpEnv env;
    // With fewer threads than parts, the rest of the parts are still done.
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
