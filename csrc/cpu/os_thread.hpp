// A thread that works for others, and what the operating system knows of it.
#pragma once

#include <chrono>
#include <thread>
#if defined(__linux__)
#include <sched.h>
#include <time.h>
#endif

namespace gdcore {

class OsThread {
 public:
  // Runs body(context), which never returns, on the CPUs of the process. Signals go to other
  // threads. Throws std::system_error if there cannot be another thread.
  OsThread(void (*body)(void*), void* context);

  // Keeps the thread off the CPU of the caller, if it may run on others.
  void leave_callers_cpu();

  // For how long the thread has been running. Zero where nobody knows.
  std::chrono::nanoseconds cpu_time() const;

 private:
  std::thread::native_handle_type handle_;
#if defined(__linux__)
  cpu_set_t allowed_;  // by the user
  cpu_set_t given_;    // by leave_callers_cpu
  clockid_t clock_;
  bool has_clock_;
#endif
};

}  // namespace gdcore
