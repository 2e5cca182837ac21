#include "cpu/linear_segment.hpp"

#include <cstring>

namespace gdcore::cpu {
namespace {

constexpr size_t copied_bytes = 16384;  // of X, to be read again while they are in L1

}  // namespace

template <class T>
SegmentPlan<T>::SegmentPlan(const LinearArgs<T>& a) : args(a) {
  const int64_t rows = std::min(a.n, L<T>);
  const bool has_few_features = a.d <= 16, lone = a.n == 1;
  block = rows;
  if (a.t == 1 && !has_few_features) {
    const int64_t fitting = static_cast<int64_t>(copied_bytes / sizeof(T)) / a.d;
    block = std::clamp<int64_t>(fitting / 16 * 16, 16, L<T>);
  }
  const bool unit_rows = a.X.cs == 1 || a.d == 1, packed_rows = a.X.rs == a.d || lone;
  copy_X = a.order || a.scaling || (a.t == 1 && (!unit_rows || (has_few_features && !packed_rows)));
  const auto in_place = [&](const Matrix<const T>& m) {
    return !a.order && (m.cs == 1 || a.t == 1) && (m.rs == a.t || lone);
  };
  copy_y = a.y.data && (a.scaling || !in_place(a.y));
  copy_offset = a.offset.data && !in_place(a.offset);
  copy_weight =
      a.sample_weight.data && (a.order || a.t > 1 || !(a.sample_weight.stride == 1 || lone));
  size_X = copy_X ? lines<T>(block * a.d) : 0;
  size_y = lines<T>(rows * a.t);
  size_weights = a.t == 1 && a.d > 1 && a.weights.rs != 1 ? lines<T>(a.d) : 0;
  size_packing =
      a.t == 1
          ? 0
          : lines<T>(std::max(packing_size<T>(rows, a.t, a.d), packing_size<T>(a.d, a.t, rows)));
}

template <class T>
Segment<T>::Segment(const SegmentPlan<T>& plan, T* memory) : plan_(plan), args_(plan.args) {
  const auto take = [&](int64_t size) {
    T* at = memory;
    memory += size;
    return at;
  };
  if (args_.order) rows_ = reinterpret_cast<int64_t*>(take(plan.size_order()));
  if (args_.t > 1) r_ = take(plan.size_y);
  weights_ = take(plan.size_weights);
  X_ = take(plan.size_X);
  if (plan.copy_y) y_ = take(plan.size_y);
  if (plan.copy_offset) offset_ = take(plan.size_y);
  if (plan.copy_weight) weight_ = take(plan.size_y);
  packing_ = take(plan.size_packing);
}

template <class T>
void Segment<T>::run(int64_t segment0, int64_t segment1, T* slots, double* totals) {
  const int64_t slot = slot_size(args_);
  const bool together = args_.t == 1 && args_.d > 0 && plan_.in_place();
  if (together) {
    locate(segment0 * L<T>, std::min(args_.n, segment1 * L<T>) - segment0 * L<T>);
    kernels().rows(rows(), slots, slot);
  }
  for (int64_t c = segment0; c < segment1; ++c) {
    locate(c * L<T>, rows_of(args_, c));
    if (args_.sample_weight.data) totals[c - segment0] = sum_of_weights();
    if (!together) run_one(slots + (c - segment0) * slot);
  }
}

template <class T>
void Segment<T>::locate(int64_t begin, int64_t n) {
  begin_ = args_.first + begin;
  n_ = n;
  if (!rows_) return;
  args_.order->rows(begin_, n, rows_);
  constexpr int64_t line = 64 / sizeof(T), most_lines = 4;
  for (int64_t i = 0; i < n; ++i) {  // prefetch all: no row is next to another
    const T* const x = args_.X.data + rows_[i] * args_.X.rs;
    for (int64_t j = 0; j < std::min(args_.d, most_lines * line); j += line)
      __builtin_prefetch(x + j * args_.X.cs);
    if (args_.y.data) __builtin_prefetch(args_.y.data + rows_[i] * args_.y.rs);
  }
}

template <class T>
void Segment<T>::run_one(T* slot) {
  if (args_.t == 1)
    single_target(slot);
  else
    several_targets(partial_at(args_, slot));
}

template <class T>
const LinearKernels<T>& Segment<T>::kernels() const {
  return isa<T>().linear(args_.loss);
}

template <class T>
template <class F>
void Segment<T>::each_row(F&& f) const {
  if (rows_)
    for (int64_t i = 0; i < n_; ++i) f(i, rows_[i]);
  else
    for (int64_t i = 0; i < n_; ++i) f(i, begin_ + i);
}

template <class T>
const T* Segment<T>::elements(const Matrix<const T>& m, bool copy, T* out) const {
  if (!copy) return m.data + begin_ * m.rs;
  const T* const data = m.data;
  const int64_t t = args_.t, rs = m.rs, cs = m.cs;
  if (t == 1)
    each_row([=](int64_t i, int64_t row) { out[i] = data[row * rs]; });
  else
    each_row([=](int64_t i, int64_t row) {
      for (int64_t u = 0; u < t; ++u) out[i * t + u] = data[row * rs + u * cs];
    });
  return out;
}

template <class T>
const T* Segment<T>::targets() const {
  if (!args_.y.data) return nullptr;
  const T* const y = elements(args_.y, plan_.copy_y, y_);
  for (int64_t i = 0; args_.scaling && i < n_; ++i)
    for (int64_t u = 0; u < args_.t; ++u)
      y_[i * args_.t + u] = args_.scaled_y(y[i * args_.t + u], u);
  return y;
}

template <class T>
const T* Segment<T>::offsets() const {
  return args_.offset.data ? elements(args_.offset, plan_.copy_offset, offset_) : nullptr;
}

template <class T>
double Segment<T>::sum_of_weights() const {
  const Vector<const T> s = args_.sample_weight;
  double total = 0;
  each_row([&](int64_t, int64_t row) { total += s.data[row * s.stride]; });
  return total;
}

template <class T>
const T* Segment<T>::sample_weights() const {
  const Vector<const T> s = args_.sample_weight;
  if (!s.data) return nullptr;
  if (!plan_.copy_weight) return s.data + begin_ * s.stride;
  const int64_t t = args_.t;
  T* const out = weight_;
  if (t == 1)
    each_row([=](int64_t i, int64_t row) { out[i] = s.data[row * s.stride]; });
  else
    each_row([=](int64_t i, int64_t row) {
      for (int64_t u = 0; u < t; ++u) out[i * t + u] = s.data[row * s.stride];
    });
  return weight_;
}

template <class T>
const T* Segment<T>::X_rows(int64_t i0, int64_t rows, int64_t& ld) const {
  ld = plan_.copy_X ? args_.d : args_.X.rs;
  const T* const first = args_.X.data + (begin_ + i0) * args_.X.rs;
  if (!plan_.copy_X) return first;
  const int64_t rs = args_.X.rs;
  if (!rows_ && args_.d == 1)
    for (int64_t i = 0; i < rows; ++i) X_[i] = first[i * rs];
  else if (!rows_)
    isa<T>().pack({1, rows, static_cast<int>(args_.d), static_cast<int>(args_.d), first, args_.X.rs,
                   args_.X.cs, 0, X_});
  else
    gather_rows(i0, rows);
  for (int64_t i = 0; args_.scaling && i < rows; ++i)
    for (int64_t j = 0; j < args_.d; ++j)
      X_[i * args_.d + j] = args_.scaled_x(X_[i * args_.d + j], j);
  return X_;
}

template <class T>
void Segment<T>::gather_rows(int64_t i0, int64_t rows) const {
  const int64_t d = args_.d, rs = args_.X.rs, cs = args_.X.cs;
  T* to = X_;
  for (int64_t i = i0; i < i0 + rows; ++i) {
    const T* from = args_.X.data + rows_[i] * rs;
    if (cs == 1)
      std::memcpy(to, from, static_cast<size_t>(d) * sizeof(T));
    else
      for (int64_t j = 0; j < d; ++j) to[j] = from[j * cs];
    to += d;
  }
}

template <class T>
LinearRows<T> Segment<T>::rows() const {
  return {n_,
          args_.d,
          args_.X.data ? args_.X.data + begin_ * args_.X.rs : nullptr,
          args_.X.rs,
          weights(),
          args_.intercept.data,
          offsets(),
          targets(),
          sample_weights(),
          reading_of(args_),
          static_cast<T>(args_.loss.delta)};
}

template <class T>
void Segment<T>::single_target(T* slot) const {
  const LinearRows<T> all = rows();
  LinearRows<T> x = all;
  if (plan_.copy_X && plan_.block >= n_) x.X = X_rows(0, n_, x.ldx);
  if (!plan_.copy_X || plan_.block >= n_) return kernels().rows(x, slot, 0);
  alignas(64) T lanes[2 * V];
  for (int64_t i = 0; i < n_; i += plan_.block) {
    x.rows = std::min(plan_.block, n_ - i);
    x.X = X_rows(i, x.rows, x.ldx);
    if (all.y) x.y = all.y + i;
    if (all.offset) x.offset = all.offset + i;
    if (all.sample_weight) x.sample_weight = all.sample_weight + i;
    kernels().block(x, slot, lanes, i == 0, i + x.rows == n_);
  }
}

template <class T>
const T* Segment<T>::weights() const {
  const Matrix<const T>& w = args_.weights;
  if (w.rs == 1 || args_.d == 1) return w.data;
  for (int64_t j = 0; j < args_.d; ++j) weights_[j] = w.data[j * w.rs];
  return weights_;
}

template <class T>
void Segment<T>::several_targets(const Partial<T>& out) {
  const int64_t d = args_.d, t = args_.t;
  const T *y = targets(), *offset = offsets(), *weight = sample_weights();
  Matrix<const T> X{nullptr, args_.X.rs, args_.X.cs};
  if (plan_.copy_X) {
    X.data = X_rows(0, n_, X.rs);
    X.cs = 1;
  } else if (d > 0) {
    X.data = args_.X.data + begin_ * X.rs;
  }
  gemm<T>(n_, t, d, X, args_.weights, {r_, t, 1}, packing_);
  if (args_.intercept.data)
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t u = 0; u < t; ++u)
        r_[i * t + u] += args_.intercept.data[u * args_.intercept.stride];
  for (int64_t e = 0; e < n_ * t; e += L<T>) {
    LinearRows<T> x{};
    if (offset) x.offset = offset + e;
    if (y) x.y = y + e;
    if (weight) x.sample_weight = weight + e;
    x.delta = static_cast<T>(args_.loss.delta);
    kernels().residuals(std::min(L<T>, n_ * t - e), r_ + e, x, out.squares + e / L<T>);
  }
  std::fill_n(out.intercept, t, T(0));
  for (int64_t i = 0; i < n_; ++i)
    for (int64_t u = 0; u < t; ++u) out.intercept[u] += r_[i * t + u];
  gemm<T>(d, t, n_, {X.data, X.cs, X.rs}, {r_, t, 1}, {out.weights, t, 1}, packing_);
}

template struct SegmentPlan<float>;
template struct SegmentPlan<double>;
template class Segment<float>;
template class Segment<double>;

}  // namespace gdcore::cpu
