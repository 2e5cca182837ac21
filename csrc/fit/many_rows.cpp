#include "fit/many_rows.hpp"

#include <algorithm>

#include "descend.hpp"

namespace gdcore {
namespace {

template <class T>
void advance(Matrix<const T>& m, int64_t elements) {
  if (m.data) m.data += elements;
}
template <class T>
void advance(Vector<const T>& v, int64_t elements) {
  if (v.data) v.data += elements;
}

}  // namespace

template <class T>
Problem<T> ManyRows<T>::size_of(int64_t i) const {
  Problem<T> p = all;
  if (!starts.empty()) p.n = starts[i + 1] - starts[i];
  return p;
}

template <class T>
int64_t ManyRows<T>::most_rows() const {
  int64_t most = starts.empty() ? all.n : 0;
  for (size_t i = 1; i < starts.size(); ++i) most = std::max(most, starts[i] - starts[i - 1]);
  return most;
}

template <class T>
Problem<T> ManyRows<T>::problem(int64_t i, RowOrder& named) const {
  Problem<T> p = size_of(i);
  named = {};
  if (starts.empty()) {
    advance(p.X, i * X_step);
    advance(p.y, i * y_step);
    advance(p.offset, i * offset_step);
    advance(p.sample_weight, i * weight_step);
    return p;
  }
  const int64_t begin = starts[i];
  if (order) {
    named = {order + begin, order + starts.back()};
    return p;
  }
  advance(p.X, begin * p.X.rs);
  advance(p.y, begin * p.y.rs);
  advance(p.offset, begin * p.offset.rs);
  advance(p.sample_weight, begin * p.sample_weight.stride);
  return p;
}

template <class T>
Problem<T> ManyRows<T>::gathered(int64_t i, std::vector<T>& storage) const {
  RowOrder named;
  Problem<T> p = problem(i, named);
  const LinearArgs<T> rows = rows_in_order(ProblemRows<T>{p.args(nullptr), named}, storage);
  p.X = rows.X;
  p.y = rows.y;
  p.offset = rows.offset;
  p.sample_weight = rows.sample_weight;
  return p;
}

template <class T>
bool has_weight(const Problem<T>& p) {
  if (!p.sample_weight.data) return p.n > 0;
  for (int64_t i = 0; i < p.n; ++i)
    if (p.sample_weight.data[i * p.sample_weight.stride] != 0) return true;
  return false;
}

#define GDCORE_INSTANTIATE(T)  \
  template struct ManyRows<T>; \
  template bool has_weight<T>(const Problem<T>&);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace gdcore
