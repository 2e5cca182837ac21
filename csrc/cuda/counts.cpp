#include "cuda/counts.hpp"

#include <algorithm>
#include <cstdlib>
#include <type_traits>

#include "cuda/driver.hpp"
#include "cuda/kernels/counts_params.hpp"

namespace gdcore::cuda {
namespace {

constexpr int64_t most_blocks = 1024;     // more would not read faster, and their counts are copied
constexpr int64_t most_counts = 1 << 18;  // of all blocks

// Threads side by side in a row; one where columns lie side by side in memory.
template <class T>
int width_of(const Matrix<const T>& values, int64_t columns) {
  if (std::abs(values.rs) < std::abs(values.cs)) return 1;
  int width = 1;
  while (width < columns && width < count_threads) width *= 2;
  return width;
}

}  // namespace

template <class T>
std::vector<int64_t> count_nonzero(int64_t n, int64_t columns, Matrix<const T> values,
                                   Matrix<const T> base, Vector<const T> weight) {
  std::vector<int64_t> counts(static_cast<size_t>(columns));
  if (n == 0 || columns == 0) return counts;
  CountParams<T> p{n, columns, values, base, weight, width_of(values, columns), 0, 0, nullptr};
  p.tiles = (columns + p.width - 1) / p.width;
  const int64_t most = std::clamp<int64_t>(most_counts / columns, 1, most_blocks);
  p.rows_per_block = std::max<int64_t>((n + most - 1) / most, 4 * count_threads / p.width);
  const int64_t parts = (n + p.rows_per_block - 1) / p.rows_per_block;

  const Scope scope(home_of(values.data));
  std::vector<int64_t> of_blocks(static_cast<size_t>(parts * columns));
  const size_t bytes = of_blocks.size() * sizeof(int64_t);
  const Memory memory(bytes);
  p.counts = memory.as<int64_t>();
  launch(std::is_same_v<T, float> ? "count_nonzero_f32" : "count_nonzero_f64", parts * p.tiles,
         count_threads, sizeof(int64_t) * count_threads, p);
  copy_to_host(of_blocks.data(), p.counts, bytes);
  synchronize();
  for (size_t i = 0; i < of_blocks.size(); ++i)
    counts[i % static_cast<size_t>(columns)] += of_blocks[i];
  return counts;
}
template std::vector<int64_t> count_nonzero(int64_t, int64_t, Matrix<const float>,
                                            Matrix<const float>, Vector<const float>);
template std::vector<int64_t> count_nonzero(int64_t, int64_t, Matrix<const double>,
                                            Matrix<const double>, Vector<const double>);

}  // namespace gdcore::cuda
