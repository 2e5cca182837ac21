// One descent's ordinary epochs as plain loops over a device's own sums and steps. Descent takes
// the epochs that may end with the same functions.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "device.hpp"
#include "ordinary_epoch.hpp"
#include "packed_quadratic.hpp"

namespace gdcore {

// The squared norm of the objective's gradient, weight decay included.
template <class T>
double norm_squares(int64_t size, int64_t decayed, const SgdOptions& sgd, const T* gradient,
                    const T* params) {
  const double sign = sgd.maximize ? -1 : 1;
  double squares = 0;
  for (int64_t j = 0; j < size; ++j) {
    const double decay = j < decayed ? sgd.weight_decay * static_cast<double>(params[j]) : 0.0;
    const double entry = sign * static_cast<double>(gradient[j]) + decay;
    squares += entry * entry;
  }
  return squares;
}

// A step of all parameters, which are the host's. `previous` and `previous_velocity` get what they
// were before.
template <class T>
struct FullStep {
  int64_t size, decayed;
  double lr;
  const SgdOptions& sgd;
  const T* gradient;
  T *params, *velocity, *previous, *previous_velocity;  // velocities: null without momentum
  bool first;
};

// Plain loops: small fits would spend more time in calls of memcpy than in steps.
template <class T>
bool same_bits(int64_t size, const T* a, const T* b) {
  for (int64_t j = 0; j < size; ++j)
    if (!(a[j] == b[j] && std::signbit(a[j]) == std::signbit(b[j]))) return false;
  return true;
}

// Whether it changed a bit of the parameters or the velocity.
template <class T>
bool step_all(const Device<T>& device, const FullStep<T>& step) {
  for (int64_t j = 0; j < step.size; ++j) step.previous[j] = step.params[j];
  for (int64_t j = 0; step.velocity && !step.first && j < step.size; ++j)
    step.previous_velocity[j] = step.velocity[j];
  const auto part = [&](int64_t begin, int64_t end, const SgdOptions& sgd) {
    if (begin == end) return;
    host_of(device).sgd(end - begin, step.params + begin, step.gradient + begin,
                        step.velocity ? step.velocity + begin : nullptr, step.first, step.lr, sgd);
  };
  part(0, step.decayed, step.sgd);
  SgdOptions plain = step.sgd;
  plain.weight_decay = 0;
  part(step.decayed, step.size, plain);
  if (step.velocity && (step.first || !same_bits(step.size, step.velocity, step.previous_velocity)))
    return true;
  return !same_bits(step.size, step.params, step.previous);
}

// Copies rows, in their order, see Device::fetch.
template <class T>
void copy_rows(const ProblemRows<T>& rows, T* to) {
  const LinearArgs<T>& args = rows.args;
  const int64_t* const order = rows.order.rows;
  const auto copy = [&](const Matrix<const T>& m, int64_t columns) {
    constexpr int64_t ahead = 32;  // rows in an order are anywhere, and begin anywhere in a line
    for (int64_t i = 0; m.data && i < args.n; ++i) {
      if (order && i + ahead < args.n) {
        const T* const later = m.data + order[i + ahead] * m.rs;
        __builtin_prefetch(later);
        __builtin_prefetch(later + (columns - 1) * m.cs);
      }
      const T* const row = m.data + (order ? order[i] : i) * m.rs;
      if (m.cs == 1)
        std::copy_n(row, columns, to);
      else
        for (int64_t j = 0; j < columns; ++j) to[j] = row[j * m.cs];
      to += columns;
    }
  };
  copy(args.X, args.d);
  copy(args.y, args.t);
  copy(args.offset, args.t);
  copy({args.sample_weight.data, args.sample_weight.stride, 0}, 1);
}

// The rows that fetch, a Device's, copies to `storage`.
template <class T, class Fetch>
LinearArgs<T> fetched_rows(const ProblemRows<T>& rows, std::vector<T>& storage, Fetch&& fetch) {
  LinearArgs<T> args = rows.args;
  storage.resize(static_cast<size_t>(args.n * (args.d + 2 * args.t + 1)));
  fetch(rows, storage.data());
  const T* at = storage.data();
  const auto next = [&](Matrix<const T>& m, int64_t columns) {
    if (!m.data) return;
    m = {at, columns, 1};
    at += args.n * columns;
  };
  next(args.X, args.d);
  next(args.y, args.t);
  next(args.offset, args.t);
  if (args.sample_weight.data) args.sample_weight = {at, 1};
  return args;
}

// Rows of a table in an order, in the host's memory, copied to `storage`; or the rows as they are.
template <class T>
LinearArgs<T> rows_in_order(const ProblemRows<T>& rows, std::vector<T>& storage) {
  return rows.order.rows ? fetched_rows(rows, storage, copy_rows<T>) : rows.args;
}

// Runs descents one after the other; its memory serves them all.
template <class T>
class PlainDescents {
 public:
  using Quadratic = double (*)(const QuadraticArgs<T>&, double*);

  PlainDescents(const Device<T>& device, Quadratic quadratic)
      : device_(device), quadratic_(quadratic) {}

  void run(const DescentArgs<T>& q) {
    gradient_.resize(static_cast<size_t>(q.size));
    previous_velocity_.resize(gradient_.size());
    if (q.quadratic) {
      packed_.unpack(q.size / q.rows.args.t, q.rows.args.t, q.quadratic);
      half_.resize(static_cast<size_t>(2 * packed_.parameters()));
    } else {
      rows_device_ = q.rows.order.rows ? &host_of(device_) : &device_;
      rows_ = q.rows.order.rows ? fetched_rows(q.rows, gathered_, device_.fetch) : q.rows.args;
    }
    *q.may_end = 0;
    T *losses = q.losses, *recorded = q.recorded;
    for (int64_t epochs = 0; epochs < q.epochs || q.loss; ++epochs) {
      const T loss = closed_loss<T>(q.scale, measure(q));
      const bool ends = ends_at(q, loss);
      if (ends || epochs == q.epochs) {
        *q.may_end = ends;
        if (q.loss) *q.loss = loss;
        return;
      }
      step(q, loss);
      if (q.every == 0 || *q.epoch % q.every != 0) continue;
      if (losses) *losses++ = loss;
      for (int64_t j = 0; recorded && j < q.size; ++j) *recorded++ = q.params[j];
    }
  }

 private:
  // The sum of squares and, closed, the gradient at the parameters.
  double measure(const DescentArgs<T>& q) {
    const int64_t t = q.rows.args.t;
    T* to = gradient_.data();
    if (!q.quadratic) {
      sums_.reset(rows_.d, t);
      rows_device_->linear(rows_, 0, ceil_div(rows_.n, L<T>), sums_);
      sums_.close();
      for (double sum : sums_.weights) *to++ = closed_gradient<T>(q.scale, sum);
      if (rows_.intercept.data)
        for (double sum : sums_.intercept) *to++ = closed_gradient<T>(q.scale, sum);
      return sums_.squares;
    }
    double squares = 0;
    for (int64_t u = 0; u < t; ++u) {
      squares += quadratic_(packed_.at(u, q.params + u, t), half_.data());
      for (int64_t a = 0; a < packed_.parameters(); ++a)
        to[a * t + u] = closed_gradient<T>(q.scale, half_[a]);
    }
    return squares < 0 ? 0 : squares;  // by rounding
  }

  bool ends_at(const DescentArgs<T>& q, T loss) const {
    const EndRules<OneNumber<T>> rules{q.norm_bound, q.stop_on_equal_loss};
    const double squares = norm_squares(q.size, q.decayed, q.sgd, gradient_.data(), q.params);
    return may_end<OneNumber<T>>(rules, loss, *q.last_loss, squares, *q.moved != 0);
  }

  void step(const DescentArgs<T>& q, T loss) {
    T* const velocity = q.sgd.momentum != 0 ? q.velocity : nullptr;
    *q.moved =
        step_all(device_, FullStep<T>{q.size, q.decayed, q.lr, q.sgd, gradient_.data(), q.params,
                                      velocity, q.previous, previous_velocity_.data(), !*q.moving});
    if (velocity) *q.moving = 1;
    if (std::isnan(*q.first_loss)) *q.first_loss = loss;
    *q.last_loss = loss;
    ++*q.epoch;
  }

  const Device<T>& device_;
  const Device<T>* rows_device_ = nullptr;  // where rows_ are
  Quadratic quadratic_;
  PackedQuadratic<T> packed_;
  LinearArgs<T> rows_;
  LinearSums sums_;
  std::vector<double> half_;
  std::vector<T> gradient_, previous_velocity_, gathered_;
};

}  // namespace gdcore
