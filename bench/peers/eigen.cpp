#include <Eigen/Core>

#include "peer.hpp"

#define PEER_STRING_(x) #x
#define PEER_STRING(x) PEER_STRING_(x)

namespace peer {
namespace {

// Maps whose sizes are known to the compiler (Dynamic: at run time only).
template <class T, int Rows, int Cols>
using Matrix = Eigen::Matrix<T, Rows, Cols, Cols == 1 ? Eigen::ColMajor : Eigen::RowMajor>;

template <class T, int M, int N, int K>
void multiply_range(const Task& task, const T* a, const T* b, T* c, int64_t begin, int64_t end) {
  const int64_t m = task.m, n = task.n, k = task.k;
  for (int64_t i = begin; i < end; ++i) {
    const Eigen::Map<const Matrix<T, M, K>> left(a + i * m * k, m, k);
    const Eigen::Map<const Matrix<T, K, N>> right(b + i * k * n, k, n);
    Eigen::Map<Matrix<T, M, N>>(c + i * m * n, m, n).noalias() = left * right;
  }
}

// Small squares as an Eigen user would write them, with fixed sizes; a column as a vector.
template <class T>
auto range_of(const Task& task) {
  constexpr int any = Eigen::Dynamic;
  const bool square = task.m == task.n && task.n == task.k;
  if (square && task.n == 2) return multiply_range<T, 2, 2, 2>;
  if (square && task.n == 3) return multiply_range<T, 3, 3, 3>;
  if (square && task.n == 4) return multiply_range<T, 4, 4, 4>;
  if (square && task.n == 8) return multiply_range<T, 8, 8, 8>;
  if (square && task.n == 16) return multiply_range<T, 16, 16, 16>;
  if (task.n == 1) return multiply_range<T, any, 1, any>;
  return multiply_range<T, any, any, any>;
}

}  // namespace

// A batch of as many problems as threads is split; otherwise Eigen splits each product.
template <class T>
bool multiply(const Task& task, const T* a, const T* b, T* c) {
  const auto range = range_of<T>(task);
  const bool whole = task.batch >= task.threads;
  Eigen::setNbThreads(whole ? 1 : task.threads);
  Task split = task;
  if (!whole) split.threads = 1;
  for (int64_t repeat = 0; repeat < task.repeats; ++repeat)
    split_batch(split, [&](int64_t begin, int64_t end) { range(task, a, b, c, begin, end); });
  return true;
}
template bool multiply<float>(const Task&, const float*, const float*, float*);
template bool multiply<double>(const Task&, const double*, const double*, double*);

const char* version() {
  return "Eigen " PEER_STRING(EIGEN_WORLD_VERSION) "." PEER_STRING(
      EIGEN_MAJOR_VERSION) "." PEER_STRING(EIGEN_MINOR_VERSION);
}

}  // namespace peer
