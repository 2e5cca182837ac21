#if defined(__linux__)
#include "cpu/process_cpus.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <string>
#include <vector>

namespace gdcore {
namespace {

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

}  // namespace

void add_cpus(cpu_set_t& set, const Places& places) {
  for (int place = 0; places && place < places.count(); ++place) {
    std::vector<int> cpus(static_cast<size_t>(std::max(0, places.size(place))));
    places.cpus(place, cpus.data());
    for (const int cpu : cpus)
      if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(static_cast<size_t>(cpu), &set);
  }
}

// A runtime that binds threads (OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY) narrows the mask of
// the thread that loads it to one of its places, so the places of every loaded runtime count too.
cpu_set_t current_cpus() {
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
  static const cpu_set_t cpus = current_cpus();
  return cpus;
}

}  // namespace gdcore
#endif
