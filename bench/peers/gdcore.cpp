// gdcore itself without Python, so that C++ is compared with C++.
#include <cstdlib>
#include <string>

#include "cpu/dispatch.hpp"
#include "cpu/threads.hpp"
#include "device.hpp"
#include "fp_env.hpp"
#include "peer.hpp"

namespace peer {
namespace {

// As the Python package does on import.
const bool chosen = [] {
  const char* forced = std::getenv("GDCORE_ISA");
  gdcore::choose_isa(forced ? forced : gdcore::available_isas().back());
  return true;
}();

}  // namespace

template <class T>
bool multiply(const Task& task, const T* a, const T* b, T* c) {
  const int64_t m = task.m, n = task.n, k = task.k;
  const gdcore::FpEnv env;
  const gdcore::ThreadScope threads(task.threads);
  const gdcore::MatmulArgs<T> args{
      m, n, k, {a, k, 1}, {b, n, 1}, {c, n, 1}, {task.batch}, {m * k}, {k * n}, {m * n}};
  for (int64_t repeat = 0; repeat < task.repeats; ++repeat) gdcore::host_device<T>().matmul(args);
  return true;
}
template bool multiply<float>(const Task&, const float*, const float*, float*);
template bool multiply<double>(const Task&, const double*, const double*, double*);

const char* version() {
  static const std::string text = "gdcore " GDCORE_VERSION " " + gdcore::chosen_isa();
  return text.c_str();
}

}  // namespace peer
