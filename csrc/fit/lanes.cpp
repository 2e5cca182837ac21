#include "fit/lanes.hpp"

#include <algorithm>

namespace gdcore {

template <class T>
Lanes<T>::Lanes(int64_t p, const DescentOptions& options)
    : p_(p),
      momentum_(options.sgd.momentum != 0),
      sums_(static_cast<size_t>(2 * (p * p + p + 1) * count)),
      scales_(6 * count, 1.0),
      params_(static_cast<size_t>((3 * p + 2) * count)),
      losses_(most_epochs * count),
      flags_(2 * count) {
  view_.p = p;
  view_.active = 0;
  view_.has_momentum = momentum_;
  view_.nesterov = options.sgd.nesterov;
  view_.stop_on_equal_loss = options.stop_on_equal_loss;
  view_.momentum = static_cast<T>(options.sgd.momentum);
  view_.damped = static_cast<T>(1.0 - options.sgd.dampening);
  const double* sums = sums_.data();
  view_.G = sums;
  view_.c = sums += 2 * p * p * count;
  view_.s = sums += 2 * p * count;
  double* scale = scales_.data();
  view_.divisor = scale;
  view_.factor = scale += count;
  view_.lr = scale += count;
  view_.decay = scale += count;
  view_.tol = scale += count;
  view_.first_norm = scale += count;
  T* params = params_.data();
  view_.w = params;
  view_.velocity = params += p * count;
  view_.previous = params += p * count;
  view_.first_loss = params += p * count;
  view_.last_loss = params += count;
  view_.moving = flags_.data();
  view_.moved = flags_.data() + count;
  view_.losses = losses_.data();
}

template <class T>
void Lanes<T>::load(int lane, const Quadratic<T>& quadratic, const Scale& scale,
                    const DescentOptions& options, double lr, const DescentState<T>& state) {
  double* const sums = sums_.data() + lane;
  quadratic.spread(sums, sums + 2 * p_ * p_ * count, sums + 2 * (p_ * p_ + p_) * count, count);
  const double values[] = {scale.divisor, scale.gradient,  lr, options.sgd.weight_decay,
                           options.tol,   state.first_norm};
  for (size_t i = 0; i < 6; ++i) scales_[i * count + lane] = values[i];
  for (int64_t j = 0; j < p_; ++j) {
    view_.w[j * count + lane] = state.params[j];
    view_.velocity[j * count + lane] = state.velocity.empty() ? T(0) : state.velocity[j];
  }
  view_.first_loss[lane] = state.first_loss;
  view_.last_loss[lane] = state.last_loss;
  view_.moving[lane] = state.velocity.empty() ? 0 : -1;
  view_.moved[lane] = -1;
  epoch_[lane] = 0;
  view_.active |= 1u << lane;
}

template <class T>
DescentState<T> Lanes<T>::unload(int lane) {
  const auto column = [&](const T* all) {
    std::vector<T> one(static_cast<size_t>(p_));
    for (int64_t j = 0; j < p_; ++j) one[j] = all[j * count + lane];
    return one;
  };
  DescentState<T> state;
  state.params = column(view_.w);
  if (view_.moving[lane]) state.velocity = column(view_.velocity);
  state.epoch = epoch_[lane];
  state.first_norm = view_.first_norm[lane];
  state.first_loss = view_.first_loss[lane];
  state.last_loss = view_.last_loss[lane];
  if (epoch_[lane] > 0) {
    state.previous = column(view_.previous);
    state.lr = view_.lr[lane];
    state.moved = view_.moved[lane] != 0;
  }
  view_.active &= ~(1u << lane);
  return state;
}

template <class T>
int64_t Lanes<T>::run(int64_t epochs, unsigned& ending) {
  const int64_t done = device<T>().quadratic_lanes(view_, std::min(epochs, most_epochs), &ending);
  for (int64_t& epoch : epoch_) epoch += done;
  return done;
}

template class Lanes<float>;
template class Lanes<double>;

}  // namespace gdcore
