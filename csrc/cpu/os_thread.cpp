#include "cpu/os_thread.hpp"

#include <signal.h>

#include <initializer_list>

#if defined(__linux__)
#include <pthread.h>

#include "cpu/process_cpus.hpp"
#endif

namespace gdcore {
namespace {

// Blocks signals in this thread, but for those that a thread's own instruction raises.
class WithoutSignals {
 public:
  WithoutSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int own : {SIGBUS, SIGFPE, SIGILL, SIGSEGV}) sigdelset(&all, own);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~WithoutSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  WithoutSignals(const WithoutSignals&) = delete;
  WithoutSignals& operator=(const WithoutSignals&) = delete;

 private:
  sigset_t before_;
};

std::thread started(void (*body)(void*), void* context) {
  const WithoutSignals inherited;
  return std::thread(body, context);
}

}  // namespace

#if defined(__linux__)

OsThread::OsThread(void (*body)(void*), void* context) : allowed_(current_cpus()) {
  std::thread thread = started(body, context);
  handle_ = thread.native_handle();
  thread.detach();
  pthread_setname_np(handle_, "gdcore");
  pthread_setaffinity_np(handle_, sizeof allowed_, &allowed_);
  pthread_getaffinity_np(handle_, sizeof given_, &given_);
  has_clock_ = pthread_getcpuclockid(handle_, &clock_) == 0;
}

void OsThread::leave_callers_cpu() {
  cpu_set_t now;
  if (pthread_getaffinity_np(handle_, sizeof now, &now) != 0) return;
  if (!CPU_EQUAL(&now, &given_)) allowed_ = now;  // somebody else has changed it
  cpu_set_t others = allowed_;
  if (const int cpu = sched_getcpu(); cpu >= 0) CPU_CLR(static_cast<size_t>(cpu), &others);
  if (CPU_COUNT(&others) == 0 || CPU_EQUAL(&others, &now)) return;
  pthread_setaffinity_np(handle_, sizeof others, &others);
  pthread_getaffinity_np(handle_, sizeof given_, &given_);
}

std::chrono::nanoseconds OsThread::cpu_time() const {
  timespec time{};
  if (has_clock_) clock_gettime(clock_, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

#else

OsThread::OsThread(void (*body)(void*), void* context) {
  std::thread thread = started(body, context);
  handle_ = thread.native_handle();
  thread.detach();
}

void OsThread::leave_callers_cpu() {}

std::chrono::nanoseconds OsThread::cpu_time() const { return {}; }

#endif

}  // namespace gdcore
