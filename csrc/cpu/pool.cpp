// The engine by default: threads that do not make a call slower than one thread alone.
//
// The caller does every part that nobody has begun, and waits only for those begun. A worker that
// sleeps is woken only for work that is worth it, and away from the caller's CPU: Linux would place
// it there, behind the caller, until the scheduler next balances the CPUs. Where a worker lost its
// CPU to another process for most of a task, the caller works alone for a while.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <system_error>

#include "cpu/os_thread.hpp"
#include "cpu/parts.hpp"
#include "fp_env.hpp"

namespace gdcore {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// A sleeping worker is woken for this much work of a task, or this long a run of tasks.
constexpr int64_t work_to_wake = int64_t{1} << 23;  // about half a millisecond
constexpr microseconds burst_to_wake(200);

constexpr microseconds spin_time(200);   // of a thread with nothing to do, before it sleeps
constexpr microseconds least_loss(100);  // that makes the caller retreat
constexpr int64_t work_to_risk = int64_t{1} << 30;  // about 50 ms, beside which a loss is small
constexpr milliseconds least_retreat(20), most_retreat(2000);

// Calls `found` until it is true or spin_time is over.
template <class Found>
bool spin(Found&& found) {
  const auto end = Clock::now() + spin_time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (found()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("yield");
#endif
    }
  } while (Clock::now() < end);
  return false;
}

class Worker {
 public:
  Worker() : thread_([](void* worker) { static_cast<Worker*>(worker)->loop(); }, this) {}

  bool is_awake() const { return !asleep_.load(std::memory_order_relaxed); }

  // Gives the worker parts to do as thread `number`, if it has none.
  bool offer(Parts& parts, int number) {
    uintptr_t task = none;
    if (!task_.compare_exchange_strong(task, reserved)) return false;
    number_ = number;
    task_.store(reinterpret_cast<uintptr_t>(&parts));
    if (asleep_.load()) {
      const std::lock_guard lock(sleep_);
      thread_.leave_callers_cpu();
      called_ = true;
      wake_.notify_one();
    }
    return true;
  }

  bool has_begun(Parts& parts) const { return task_.load() == begun(parts); }
  bool is_offered(Parts& parts) const {
    return task_.load() == reinterpret_cast<uintptr_t>(&parts);
  }

  // Takes the parts back, or waits until the worker is done if it has begun. Returns for how long
  // it was waited for and did not run.
  nanoseconds withdraw(Parts& parts) {
    auto task = reinterpret_cast<uintptr_t>(&parts);
    if (task_.compare_exchange_strong(task, none) || !has_begun(parts)) return {};
    if (spin([&] { return !has_begun(parts); })) return {};
    const auto waiting = Clock::now();
    const nanoseconds ran = thread_.cpu_time();
    {
      std::unique_lock lock(wait_);
      ++waited_for_;
      done_.wait(lock, [&] { return !has_begun(parts); });
      --waited_for_;
    }
    return (Clock::now() - waiting) - (thread_.cpu_time() - ran);
  }

 private:
  // A task is `none`, `reserved` while it is being written, the address of its parts, or that and
  // `begun`.
  static constexpr uintptr_t none = 0, reserved = 1, begun_bit = 1;
  static uintptr_t begun(Parts& parts) { return reinterpret_cast<uintptr_t>(&parts) | begun_bit; }
  bool has_task() const { return task_.load() > reserved; }

  void loop() {
    const FpEnv env;
    const ThreadScope alone(1);
    while (true) {
      if (!spin([&] { return has_task(); })) sleep();
      uintptr_t task = task_.load();
      if (task <= reserved || !task_.compare_exchange_strong(task, task | begun_bit)) continue;
      reinterpret_cast<Parts*>(task)->run(number_);
      task_.store(none);
      if (waited_for_.load() > 0) {
        const std::lock_guard lock(wait_);
        done_.notify_all();
      }
    }
  }

  void sleep() {
    std::unique_lock lock(sleep_);
    asleep_.store(true);
    if (!has_task()) wake_.wait(lock, [&] { return called_; });
    asleep_.store(false);
    called_ = false;
  }

  alignas(64) std::atomic<uintptr_t> task_{none};
  std::atomic<bool> asleep_{false};
  std::atomic<int> waited_for_{0};
  int number_ = 0;
  bool called_ = false;
  std::mutex sleep_, wait_;
  std::condition_variable wake_, done_;
  OsThread thread_;  // last, since it uses the others
};

// After a loss the caller works alone, each time for longer if the last loss is not long ago.
class Retreat {
 public:
  bool lasts(Clock::time_point now) const { return now.time_since_epoch().count() < end_; }

  void begin(Clock::time_point now) {
    const int64_t time = now.time_since_epoch().count(), last = length_;
    const bool again = last > 0 && time < end_ + 8 * last;
    const int64_t length = again ? std::min(2 * last, nanoseconds(most_retreat).count())
                                 : nanoseconds(least_retreat).count();
    length_ = length;
    end_ = time + length;
  }

 private:
  std::atomic<int64_t> end_{0}, length_{0};
};

class Pool {
 public:
  // Offers the parts to free workers: to those that are awake, and to at most `wakes` that sleep or
  // do not exist yet.
  void offer(Parts& parts, int threads, int64_t wakes) {
    int number = 1;
    for (int i = 0; i < count_.load() && number < threads; ++i)
      if (workers_[i]->is_awake() && workers_[i]->offer(parts, number)) ++number;
    for (int i = 0; wakes > 0 && number < threads; ++i) {
      if (i == count_.load() && !grow(threads - 1)) return;
      if (workers_[i]->offer(parts, number)) ++number, --wakes;
    }
  }

  void wait_until_begun(Parts& parts) {
    for (int i = 0; i < count_.load(); ++i)
      while (workers_[i]->is_offered(parts)) std::this_thread::yield();
  }

  nanoseconds withdraw(Parts& parts) {
    nanoseconds lost{};
    for (int i = 0; i < count_.load(); ++i) lost = std::max(lost, workers_[i]->withdraw(parts));
    return lost;
  }

 private:
  // Starts one more worker, unless there are `most` or the system allows no more.
  bool grow(int most) {
    const std::lock_guard lock(growing_);
    const int count = count_.load();
    if (count >= most) return false;
    try {
      workers_[count] = std::make_unique<Worker>();
    } catch (const std::system_error&) {
      return false;
    }
    count_ = count + 1;
    return true;
  }

  std::array<std::unique_ptr<Worker>, max_threads> workers_;  // the first count_ never change
  std::atomic<int> count_{0};
  std::mutex growing_;
};

// The calling thread's last tasks, each begun soon after the one before.
struct Burst {
  Clock::time_point end{};
  nanoseconds length{};
};

std::atomic<bool> everyone_takes_part{false};

}  // namespace

void run_on_engine(Parts& parts, Team team) {
  static Pool& pool = *new Pool;  // never destroyed: its threads sleep until the process ends
  static Retreat retreat;
  thread_local Burst burst;
  const bool test = everyone_takes_part.load(std::memory_order_relaxed);
  const auto start = Clock::now();
  if (start - burst.end > spin_time) burst.length = {};
  if (test || team.work >= work_to_risk || !retreat.lasts(start)) {
    const int64_t wakes = team.work / work_to_wake + burst.length / burst_to_wake;
    pool.offer(parts, team.threads, test ? max_threads : wakes);
    if (test) pool.wait_until_begun(parts);
  }
  parts.run(0);
  const nanoseconds lost = pool.withdraw(parts);
  burst.end = Clock::now();
  const nanoseconds took = burst.end - start;
  burst.length += took;
  // Alone the caller needs twice the rest at most, if there are two threads.
  if (lost > least_loss && 2 * lost > took) retreat.begin(burst.end);
}

bool let_everyone_take_part(bool choice) { return everyone_takes_part.exchange(choice); }
const char* thread_engine() { return "pool"; }

}  // namespace gdcore
