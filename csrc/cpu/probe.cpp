#include "cpu/probe.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <new>
#include <numeric>
#include <vector>

#include "contract.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/parallel.hpp"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gdcore {
namespace {

// Long enough to hide the start of a region, short enough that the best pass was undisturbed.
constexpr double pass_seconds = 0.01;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Every thread has work of its own, and lasting.
Team all(int threads) { return {threads, std::numeric_limits<int64_t>::max()}; }

// Most units a second: in each pass every thread calls unit(thread, step), which returns the units
// it did in some microseconds, for step 0, 1, ... until the pass is over.
template <class Unit>
double best_rate(int threads, double seconds, Unit&& unit) {
  std::vector<double> done(static_cast<size_t>(threads));
  std::vector<int64_t> steps(static_cast<size_t>(
      threads));  // continues over passes, or each pass would find its data cached
  double best = 0;
  const double last = now() + seconds;
  do {
    const double start = now(), stop = start + pass_seconds;
    parallel_for(threads, all(threads), [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        double sum = 0;
        int64_t& step = steps[static_cast<size_t>(t)];
        do sum += unit(t, step++);
        while (now() < stop);
        done[static_cast<size_t>(t)] = sum;
      }
    });
    best = std::max(best, std::accumulate(done.begin(), done.end(), 0.0) / (now() - start));
  } while (now() < last);
  return best;
}

// A sink for results, so that the compiler must compute them.
template <class T>
std::atomic<T> sink;
template <class T>
void consume(T value) {
  sink<T>.store(value, std::memory_order_relaxed);
}

// Memory for the threads' parts, untouched until its thread writes it; on huge pages where there
// are any, as NumPy's large arrays are.
class Pages {
 public:
  explicit Pages(int64_t bytes)
      : data_(static_cast<float*>(::operator new(static_cast<size_t>(bytes), alignment))) {
#if defined(__linux__)
    madvise(data_, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  }
  ~Pages() { ::operator delete(data_, alignment); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  float* data() { return data_; }

 private:
  static constexpr std::align_val_t alignment{size_t{2} << 20};
  float* data_;
};

}  // namespace

template <class T>
double probe_fma(int threads, double seconds) {
  constexpr int64_t rounds = 1000;
  const auto& table = isa<T>();
  const double operations = 2.0 * static_cast<double>(rounds * table.fma_per_round);
  return best_rate(threads, seconds, [&](int64_t, int64_t) {
    consume(table.probe_fma(rounds, T(0.999), T(0.001)));
    return operations;
  });
}
template double probe_fma<float>(int, double);
template double probe_fma<double>(int, double);

double probe_bandwidth(Traffic traffic, int64_t bytes, int threads, double seconds) {
  const auto& table = isa<float>();
  // In elements. A block is one call of a kernel. A slice is a thread's work between two looks at
  // the clock; it passes over a smaller part several times.
  constexpr int64_t block = 256, slice = int64_t{1} << 18;
  const int64_t sides = traffic == Traffic::copy ? 2 : 1, size = sizeof(float);
  const int64_t wanted = bytes / (threads * sides * size);
  const int64_t part = std::max<int64_t>(1, ceil_div(wanted, block)) * block;
  const int64_t slices = ceil_div(part, slice), times = ceil_div(slice, part);
  Pages memory(part * sides * threads * size);
  const auto part_of = [&](int64_t thread) { return memory.data() + thread * part * sides; };
  parallel_for(threads, all(threads), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) table.probe_write(part * sides, 1, part_of(t), false);
  });

  const auto rate = [&](double share, bool past_caches) {
    return best_rate(threads, share, [&](int64_t thread, int64_t step) {
      const int64_t begin = step % slices * slice, n = std::min(slice, part - begin);
      float* const at = part_of(thread) + begin;
      for (int64_t time = 0; time < times; ++time) {
        switch (traffic) {
          case Traffic::read: consume(table.probe_read(n, at)); break;
          case Traffic::write: table.probe_write(n, 1, at, past_caches); break;
          case Traffic::copy: table.probe_copy(n, at, at + part, past_caches); break;
        }
      }
      return static_cast<double>(times * n * sides * size);
    });
  };
  if (traffic == Traffic::read) return rate(seconds, false);
  return std::max(rate(seconds / 2, false), rate(seconds / 2, true));
}

}  // namespace gdcore
