#include "fit/many_rows.hpp"

#include <algorithm>

#include "fit/host_rows.hpp"

namespace gdcore {
namespace {

// Elements of X and y: a device with its own memory takes longer for a pass over so few rows than
// for a copy.
constexpr int64_t most_copied = 1 << 18;

template <class View>
void shift(View& view, const View& all, int64_t elements) {
  if (all.data) view.data = all.data + elements;
}

}  // namespace

template <class T>
Problem<T> ManyRows<T>::size_of(int64_t i) const {
  Problem<T> p = all;
  p.device = &host_of(*all.device);
  p.n = rows_of(i);
  return p;
}

template <class T>
int64_t ManyRows<T>::most_rows() const {
  int64_t most = starts.empty() ? all.n : 0;
  for (size_t i = 1; i < starts.size(); ++i) most = std::max(most, starts[i] - starts[i - 1]);
  return most;
}

template <class T>
template <class Rows>
void ManyRows<T>::locate(int64_t i, Rows& rows, RowOrder& named) const {
  named = {};
  if (starts.empty()) {
    shift(rows.X, all.X, i * X_step);
    shift(rows.y, all.y, i * y_step);
    shift(rows.offset, all.offset, i * offset_step);
    shift(rows.sample_weight, all.sample_weight, i * weight_step);
    return;
  }
  const int64_t begin = starts[i];
  rows.n = starts[i + 1] - begin;
  if (order) named = {order + begin, order + starts.back()};
  if (groups) named = groups->order_of(first_group + i);
  if (anywhere()) return;
  shift(rows.X, all.X, begin * all.X.rs);
  shift(rows.y, all.y, begin * all.y.rs);
  shift(rows.offset, all.offset, begin * all.offset.rs);
  shift(rows.sample_weight, all.sample_weight, begin * all.sample_weight.stride);
}

template <class T>
Problem<T> ManyRows<T>::gathered(int64_t i, std::vector<T>& storage) const {
  RowOrder named;
  Problem<T> p = all;
  locate(i, p, named);
  const bool small = p.n * (p.d + 1) * p.t <= most_copied;
  const bool copied = named.rows || (!p.device->of_host && small);
  return copied ? on_host(p, named, storage) : p;
}

namespace {

// As far as there are no more than `most`.
template <class T>
int64_t count_weights(const Problem<T>& p, int64_t most) {
  if (!p.sample_weight.data) return std::min(p.n, most);
  Problem<T> weights = p;  // and no columns
  weights.d = weights.t = 0;
  weights.offset.data = nullptr;
  HostRows<T> host_rows;
  int64_t count = 0;
  for (int64_t first = 0; first < p.n && count < most;) {
    const Problem<T> rows = host_rows.from(weights, first);
    for (int64_t i = 0; i < rows.n && count < most; ++i)
      count += rows.sample_weight.data[i * rows.sample_weight.stride] != 0;
    first += rows.n;
  }
  return count;
}

}  // namespace

template <class T>
int64_t rows_that_count(const Problem<T>& problem) {
  return count_weights(problem, problem.n);
}

template <class T>
bool has_weight(const Problem<T>& problem) {
  return count_weights(problem, 1) > 0;
}

#define GDCORE_INSTANTIATE(T)                                                  \
  template struct ManyRows<T>;                                                 \
  template void ManyRows<T>::locate(int64_t, LinearArgs<T>&, RowOrder&) const; \
  template int64_t rows_that_count<T>(const Problem<T>&);                      \
  template bool has_weight<T>(const Problem<T>&);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore
