#include <libxsmm.h>

#include "peer.hpp"

namespace peer {
namespace {

// Column-major: a row-major product is theirs with the operands swapped.
template <class T>
auto kernel_of(const Task& task) {
  const auto m = static_cast<libxsmm_blasint>(task.n), n = static_cast<libxsmm_blasint>(task.m),
             k = static_cast<libxsmm_blasint>(task.k);
  const T alpha = 1, beta = 0;
  const int flags = LIBXSMM_GEMM_FLAG_NONE, prefetch = LIBXSMM_GEMM_PREFETCH_NONE;
  if constexpr (sizeof(T) == 4)
    return libxsmm_smmdispatch(m, n, k, &m, &k, &m, &alpha, &beta, &flags, &prefetch);
  else
    return libxsmm_dmmdispatch(m, n, k, &m, &k, &m, &alpha, &beta, &flags, &prefetch);
}

}  // namespace

// One kernel, compiled once by its JIT and called for each problem; null for what it refuses.
template <class T>
bool multiply(const Task& task, const T* a, const T* b, T* c) {
  const auto kernel = kernel_of<T>(task);
  if (!kernel) return false;
  const int64_t a_size = task.m * task.k, b_size = task.k * task.n, c_size = task.m * task.n;
  for (int64_t repeat = 0; repeat < task.repeats; ++repeat)
    split_batch(task, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) kernel(b + i * b_size, a + i * a_size, c + i * c_size);
    });
  return true;
}
template bool multiply<float>(const Task&, const float*, const float*, float*);
template bool multiply<double>(const Task&, const double*, const double*, double*);

const char* version() { return "libxsmm " LIBXSMM_CONFIG_VERSION; }

}  // namespace peer
