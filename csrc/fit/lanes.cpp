#include "fit/lanes.hpp"

#include <algorithm>

namespace gdcore {

template <class T>
LanePanel<T>::LanePanel(int64_t d, int64_t most_rows, bool has_offset)
    : X_(static_cast<size_t>(most_rows * d * lanes)),
      y_(static_cast<size_t>(most_rows * lanes)),
      ones_(y_.size()),
      offset_(has_offset ? y_.size() : 0),
      view_{d,  X_.data(), y_.data(), ones_.data(), has_offset ? offset_.data() : nullptr,
            n_, 0,         0} {}

template <class T>
void LanePanel<T>::load(int lane, const Problem<T>& problem, RowOrder order) {
  const int64_t n = problem.n, before = n_[lane], d = view_.d;
  const Matrix<const T>&X = problem.X, &y = problem.y, &offset = problem.offset;
  T *const to_X = X_.data() + lane, *const to_y = y_.data() + lane,
           *const to_1 = ones_.data() + lane;
  const auto row = [&](int64_t i) { return order.rows ? order.rows[i] : i; };
  const LinearArgs<T> args = problem.args(nullptr);
  const bool scaled = problem.scaling != nullptr;
  if (scaled) {
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < d; ++j)
        to_X[(i * d + j) * lanes] = args.scaled_x(X.data[row(i) * X.rs + j * X.cs], j);
  } else if (!order.rows && X.rs == d && X.cs == 1) {
    for (int64_t k = 0; k < n * d; ++k) to_X[k * lanes] = X.data[k];
  } else {
    constexpr int64_t ahead = 32;  // rows in an order are anywhere
    for (int64_t i = 0; i < n; ++i) {
      if (order.end - order.rows > i + ahead) {
        __builtin_prefetch(X.data + row(i + ahead) * X.rs);
        __builtin_prefetch(y.data + row(i + ahead) * y.rs);
      }
      for (int64_t j = 0; j < d; ++j) to_X[(i * d + j) * lanes] = X.data[row(i) * X.rs + j * X.cs];
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    const T value = y.data[row(i) * y.rs];
    to_y[i * lanes] = scaled ? args.scaled_y(value, 0) : value;
  }
  for (int64_t i = 0; i < n && view_.offset; ++i)
    offset_[i * lanes + lane] = offset.data[row(i) * offset.rs];
  for (int64_t k = n * d; k < before * d; ++k) to_X[k * lanes] = 0;
  for (int64_t i = n; i < before; ++i) to_y[i * lanes] = to_1[i * lanes] = 0;
  for (int64_t i = before; i < n; ++i) to_1[i * lanes] = 1;
  n_[lane] = n;
  view_.fewest = *std::min_element(n_, n_ + lanes);
  view_.most = *std::max_element(n_, n_ + lanes);
}

template <class T>
MomentsLanes<T>::MomentsLanes(int64_t d, int64_t most_rows) : panel_(d, most_rows, false) {
  view_.side = (d + 2 + 2) / 3 * 3;
  view_.low = view_.side * view_.side * lanes;
  sums_.resize(static_cast<size_t>(2 * view_.low));
  view_.out = sums_.data();
}

template <class T>
void MomentsLanes<T>::run() {
  view_.rows = panel_.view();
  device<T>().moments_lanes(view_);
}

template <class T>
void MomentsLanes<T>::moments(int lane, Moments& out) const {
  const int64_t d = view_.rows.d;
  out.reset(d, 1);
  const auto put = [&](int64_t to, int64_t a, int64_t b) {
    const int64_t from = (a * view_.side + b) * lanes + lane;
    const Pair sum = add({}, {sums_[from], sizeof(T) == 4 ? 0.0 : sums_[from + view_.low]});
    out.hi[to] = sum.hi;
    out.lo[to] = sum.lo;
  };
  for (int64_t a = 0; a <= d; ++a)
    for (int64_t b = a; b < d + 2; ++b) put(a * out.columns() + b, a, b);
  put((d + 1) * out.columns(), d + 1, d + 1);
}

template <class T>
Lanes<T>::Lanes(int64_t p, const DescentOptions& options, const Problem<T>* like, int64_t most_rows)
    : p_(p),
      panel_(like ? like->d : 0, most_rows, like && like->offset.data),
      sums_(like ? 0 : static_cast<size_t>(2 * (p * p + p + 1) * lanes)),
      scales_(6 * lanes, 1.0),
      params_(static_cast<size_t>((3 * p + 2) * lanes)),
      losses_((most_epochs + 1) * lanes),
      records_(records(options) ? static_cast<size_t>(most_epochs * p * lanes) : 0),
      flags_(2 * lanes) {
  view_.p = p;
  view_.active = 0;
  view_.on_rows = like != nullptr;
  if (!like) {
    view_.G = sums_.data();
    view_.c = view_.G + 2 * p * p * lanes;
    view_.s = view_.c + 2 * p * lanes;
  }
  double* scale = scales_.data();
  view_.divisor = scale;
  view_.factor = scale += lanes;
  view_.lr = scale += lanes;
  view_.decay = scale += lanes;
  view_.norm_bound = scale += lanes;
  view_.momentum = scale += lanes;
  T* params = params_.data();
  view_.w = params;
  view_.velocity = params += p * lanes;
  view_.previous = params += p * lanes;
  view_.first_loss = params += p * lanes;
  view_.last_loss = params += lanes;
  view_.moving = flags_.data();
  view_.moved = flags_.data() + lanes;
  view_.losses = losses_.data();
  view_.params = records_.empty() ? nullptr : records_.data();
}

template <class T>
void Lanes<T>::load(int lane, const double* packed) {
  double* const sums = sums_.data() + lane;
  Quadratic<T>::spread(p_, packed, lanes, sums, sums + 2 * p_ * p_ * lanes,
                       sums + 2 * (p_ * p_ + p_) * lanes);
}

template <class T>
void Lanes<T>::start(int lane, const Objective& objective, const DescentOptions& options, double lr,
                     double norm_bound, const DescentState<T>& state) {
  view_.has_momentum = options.sgd.momentum != 0;
  view_.nesterov = options.sgd.nesterov;
  view_.stop_on_equal_loss = options.stop_on_equal_loss;
  view_.damped = static_cast<T>(1.0 - options.sgd.dampening);
  const double values[] = {
      objective.scale.divisor, objective.scale.gradient, lr, objective.weight_decay, norm_bound,
      options.sgd.momentum};
  view_.decayed = objective.decayed;
  for (size_t i = 0; i < 6; ++i) scales_[i * lanes + lane] = values[i];
  for (int64_t j = 0; j < p_; ++j) {
    view_.w[j * lanes + lane] = state.params[j];
    view_.velocity[j * lanes + lane] = state.velocity.empty() ? T(0) : state.velocity[j];
  }
  view_.first_loss[lane] = state.first_loss;
  view_.last_loss[lane] = state.last_loss;
  view_.moving[lane] = state.velocity.empty() ? 0 : -1;
  view_.moved[lane] = state.moved ? -1 : 0;
  epoch_[lane] = 0;
  view_.active |= 1u << lane;
}

template <class T>
void Lanes<T>::unload(int lane, DescentState<T>& state) {
  const auto column = [&](const T* all, bool known, std::vector<T>& one) {
    one.resize(known ? static_cast<size_t>(p_) : 0);
    for (size_t j = 0; j < one.size(); ++j) one[j] = all[j * lanes + lane];
  };
  view_.active &= ~(1u << lane);
  if (epoch_[lane] == 0) return;
  column(view_.w, true, state.params);
  column(view_.velocity, view_.moving[lane] != 0, state.velocity);
  column(view_.previous, true, state.previous);
  state.epoch += epoch_[lane];
  state.first_loss = view_.first_loss[lane];
  state.last_loss = view_.last_loss[lane];
  state.lr = view_.lr[lane];
  state.moved = view_.moved[lane] != 0;
}

template <class T>
int64_t Lanes<T>::run(int64_t epochs, unsigned& ending) {
  view_.rows = panel_.view();
  const int64_t done = device<T>().descent_lanes(view_, std::min(epochs, most_epochs), &ending);
  for (int64_t& epoch : epoch_) epoch += done;
  return done;
}

template <class T>
int64_t Lanes<T>::work(int64_t epochs) const {
  const int64_t each = view_.on_rows ? panel_.view().most * (p_ + 2) * 2 : p_ * p_;
  return epochs * (each * lanes + 128);
}

template class LanePanel<float>;
template class LanePanel<double>;
template class MomentsLanes<float>;
template class MomentsLanes<double>;
template class Lanes<float>;
template class Lanes<double>;

}  // namespace gdcore
