// The CPUs that this process may use, on Linux.
#pragma once

#include <sched.h>

namespace gdcore {

// The places that an OpenMP runtime binds its threads to; false if it does not bind them.
struct Places {
  int (*count)();
  int (*size)(int);
  void (*cpus)(int, int*);

  explicit operator bool() const { return count && size && cpus; }
};

void add_cpus(cpu_set_t& set, const Places& places);

// Those of the calling thread, and those that OpenMP runtimes keep it from.
cpu_set_t current_cpus();

// The CPUs at the first call: later ones of a thread may be fewer.
const cpu_set_t& process_cpus();

}  // namespace gdcore
