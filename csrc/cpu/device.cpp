// The CPU's row of the device table, and what the host computes itself.
#include "device.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/operations.hpp"
#include "cpu/parallel.hpp"
#include "cpu/threads.hpp"
#include "descend.hpp"
#include "host.hpp"
#include "reference/reference.hpp"

namespace gdcore {
namespace {

constexpr bool of_host = true;
constexpr int64_t block = 256;  // problems: lanes stay full but for the last few of a block

}  // namespace

template <class T>
const Device<T>& cpu_device() {
  static constexpr Device<T> table{of_host,         block,
                                   cpu::matmul<T>,  cpu::mse<T>,
                                   cpu::linear<T>,  cpu::linear_each<T>,
                                   cpu::moments<T>, cpu::moments_each<T>,
                                   cpu::sgd<T>,     cpu::descend_each<T>,
                                   copy_rows<T>,    cpu::quadratics_each<T>};
  return table;
}
template const Device<float>& cpu_device<float>();
template const Device<double>& cpu_device<double>();

template <class T>
const Device<T>& host_device() {
  return reference_chosen() ? reference_device<T>() : cpu_device<T>();
}
template const Device<float>& host_device<float>();
template const Device<double>& host_device<double>();

namespace host {

template <class T>
void accurate(const AccurateArgs<T>& args) {
  reference_chosen() ? reference::accurate(args) : cpu::accurate(args);
}
template void accurate<float>(const AccurateArgs<float>&);
template void accurate<double>(const AccurateArgs<double>&);

template <class T>
double quadratic(const QuadraticArgs<T>& args, double* gradient) {
  return reference_chosen() ? reference::quadratic(args, gradient) : cpu::quadratic(args, gradient);
}
template double quadratic<float>(const QuadraticArgs<float>&, double*);
template double quadratic<double>(const QuadraticArgs<double>&, double*);

void run_on_threads(int64_t tasks, int64_t work, void (*body)(void*), void* context) {
  const Team threads = reference_chosen() ? Team{1, work} : threads_for(tasks, work);
  parallel_for(threads, threads, [&](int64_t, int64_t, int) { body(context); });
}

}  // namespace host
}  // namespace gdcore
