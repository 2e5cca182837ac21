// Rows of the device's memory, copied to the host's.
#include <algorithm>
#include <optional>

#include "cuda/device_rows.hpp"
#include "cuda/driver.hpp"
#include "cuda/kernels/gather_params.hpp"
#include "cuda/launch.hpp"
#include "cuda/operations.hpp"
#include "cuda/staging.hpp"

namespace gdcore::cuda {
namespace {

// All rows of a matrix, one array of the problem's. Returns the end of what was written.
template <class T>
T* fetch_matrix(const Matrix<const T>& m, int64_t columns, int64_t n, const int64_t* row_numbers,
                T* to) {
  const bool contiguous = (m.cs == 1 || columns == 1) && (m.rs == columns || n == 1);
  if (n * columns == 0) return to;
  if (contiguous && !row_numbers) {
    download(to, m.data, static_cast<size_t>(n * columns) * sizeof(T));
    return to + n * columns;
  }
  const int64_t row_bytes = columns * static_cast<int64_t>(sizeof(T));
  const int64_t piece = std::clamp<int64_t>(wave_bytes / row_bytes, 1, n);
  const Memory gathered(static_cast<size_t>(piece * row_bytes));
  GatherParams<T> p{};
  p.columns = columns;
  p.in = m.data;
  p.rs = m.rs;
  p.cs = m.cs;
  p.out = gathered.as<T>();
  for (p.first = 0; p.first < n; p.first += piece) {
    p.rows = std::min(piece, n - p.first);
    p.row_numbers = row_numbers ? row_numbers + p.first : nullptr;
    launch_each<T>("gather", p.rows * columns, p);
    download(to, p.out, static_cast<size_t>(p.rows * row_bytes));
    to += p.rows * columns;
  }
  return to;
}

}  // namespace

template <class T>
void fetch(const ProblemRows<T>& rows, T* to) {
  const LinearArgs<T>& args = rows.args;
  const void* const any = any_element(args);
  if (!any) return;
  const Scope scope(home_of(any));
  std::optional<Memory> memory;
  const int64_t* row_numbers = nullptr;
  if (rows.order.rows) {
    const auto bytes = static_cast<size_t>(args.n) * sizeof(int64_t);
    row_numbers = memory.emplace(bytes).as<int64_t>();
    copy_to_device(memory->as<void>(), rows.order.rows, bytes);
  }
  const auto next = [&](const Matrix<const T>& m, int64_t columns) {
    if (m.data) to = fetch_matrix(m, columns, args.n, row_numbers, to);
  };
  next(args.X, args.d);
  next(args.y, args.t);
  next(args.offset, args.t);
  next({args.sample_weight.data, args.sample_weight.stride, 0}, 1);
}
template void fetch(const ProblemRows<float>&, float*);
template void fetch(const ProblemRows<double>&, double*);

}  // namespace gdcore::cuda
