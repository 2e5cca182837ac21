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
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#endif

namespace gdcore {
namespace {

// Starting and joining a second thread costs about as much as this many fma on one.
constexpr int64_t work_per_thread = 1 << 16;
constexpr int max_threads = 1024;

std::atomic<int> chosen_threads{0};  // by set_num_threads; 0: it was not called
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

#if defined(__linux__)
// The places that an OpenMP runtime binds its threads to; none if it does not bind them.
struct Places {
  int (*count)();
  int (*size)(int);
  void (*cpus)(int, int*);

  explicit operator bool() const { return count && size && cpus; }
};

void add_cpus(cpu_set_t& set, const Places& places) {
  for (int place = 0; places && place < places.count(); ++place) {
    std::vector<int> cpus(static_cast<size_t>(std::max(0, places.size(place))));
    places.cpus(place, cpus.data());
    for (const int cpu : cpus)
      if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(static_cast<size_t>(cpu), &set);
  }
}

template <class Function>
void load(Function*& function, void* library, const char* name) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
}

std::vector<std::string> loaded_openmp_runtimes() {
  std::vector<std::string> paths;
  dl_iterate_phdr(
      [](dl_phdr_info* library, size_t, void* raw) {
        const std::string path = library->dlpi_name;
        const std::string file = path.substr(path.find_last_of('/') + 1);
        for (const char* name : {"libgomp", "libomp", "libiomp"})
          if (file.rfind(name, 0) == 0)
            static_cast<std::vector<std::string>*>(raw)->push_back(path);
        return 0;
      },
      &paths);
  return paths;
}

// A runtime that binds threads (OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY) narrows the mask of
// the thread that loads it to one of its places, so the places of every loaded runtime count too.
cpu_set_t cpus_of_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  for (const std::string& path : loaded_openmp_runtimes()) {
    void* const runtime = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (!runtime) continue;
    Places places{};
    load(places.count, runtime, "omp_get_num_places");
    load(places.size, runtime, "omp_get_place_num_procs");
    load(places.cpus, runtime, "omp_get_place_proc_ids");
    add_cpus(set, places);
    dlclose(runtime);
  }
  return set;
}

const cpu_set_t& process_cpus() {
  static const cpu_set_t cpus = cpus_of_process();
  return cpus;
}

#if defined(_OPENMP)
// Lets a thread of the pool run on all CPUs of the process where another runtime, loaded first, had
// bound the thread that loaded this one, which took that place for all CPUs there are.
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
#endif

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
#if defined(__linux__)
  pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
#endif
#else
  limit = {1, "built without OpenMP"};
#endif
  return limit;
}

}  // namespace

ThreadLimit thread_limit() {
  static const ThreadLimit at_import = limit_at_import();
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  if (chosen > 0) return {chosen, "set_num_threads"};
#if defined(_OPENMP)
  // What threadpoolctl and torch.set_num_threads change. All CPUs that the runtime knows of are no
  // limit: it may have been loaded by a thread that was bound to a few.
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

int threads_for(int64_t tasks, int64_t work) {
  const int64_t most = std::min(tasks, work / work_per_thread);
  return most <= 1 ? 1 : static_cast<int>(std::min<int64_t>(most, num_threads()));
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
  // Spread, so that OMP_PROC_BIND=master does not put all of them on one CPU.
#pragma omp parallel num_threads(1 + helpers.granted) proc_bind(spread)
  {
    FpEnv env;
#if defined(__linux__)
    if (omp_get_thread_num() > 0) leave_foreign_place();
#endif
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
