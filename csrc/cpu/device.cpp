// The CPU's row of the device table.
#include "device.hpp"

#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/threads.hpp"

namespace gdcore {
namespace {

template <class T>
int64_t descent_lanes(const DescentLanes<T>& lanes, int64_t epochs, unsigned* ending) {
  return isa<T>().descent_lanes(lanes, epochs, ending);
}

template <class T>
void moments_lanes(const LaneMoments<T>& lanes) {
  isa<T>().moments_lanes(lanes);
}

void each_thread(int64_t tasks, int64_t work, void (*body)(void*), void* context) {
  const int threads = threads_for(tasks, work);
  parallel_for(threads, threads, [&](int64_t, int64_t, int) { body(context); });
}

}  // namespace

template <class T>
const Device<T>& cpu_device() {
  static constexpr Device<T> table{cpu::matmul<T>,    cpu::accurate<T>,    cpu::mse<T>,
                                   cpu::linear<T>,    cpu::linear_each<T>, cpu::moments<T>,
                                   cpu::quadratic<T>, cpu::sgd<T>,         descent_lanes<T>,
                                   moments_lanes<T>,  each_thread};
  return table;
}
template const Device<float>& cpu_device<float>();
template const Device<double>& cpu_device<double>();

template <class T>
const Device<T>& device() {
  return reference_chosen() ? reference_device<T>() : cpu_device<T>();
}
template const Device<float>& device<float>();
template const Device<double>& device<double>();

}  // namespace gdcore
