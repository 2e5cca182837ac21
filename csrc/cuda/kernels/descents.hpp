// What descents on quadratics and on rows share: rates, the end of an epoch, steps.
#pragma once

#include "cuda/kernels/descents_params.hpp"
#include "cuda/kernels/language.hpp"
#include "ordinary_epoch.hpp"

namespace gdcore::cuda {

// OneNumber, of which only fma is another on a GPU.
template <class T>
struct DeviceNumber : OneNumber<T> {
  GDCORE_HD static float fma(float a, float b, float c) { return number_fma(a, b, c); }
  GDCORE_HD static double fma(double a, double b, double c) { return number_fma(a, b, c); }

 private:
  template <class X>
  GDCORE_HD static X number_fma(X a, X b, X c) {
#if defined(__CUDA_ARCH__)
    return cuda::fma(a, b, c);
#else
    return OneNumber<T>::fma(a, b, c);
#endif
  }
};

template <class T>
GDCORE_DEVICE bool is_negative(T x) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 4)
    return __float_as_int(x) < 0;
  else
    return __double2hiint(x) < 0;
#else
  return __builtin_signbit(x);
#endif
}
template <class T>
GDCORE_DEVICE bool same_bits(T a, T b) {
  return a == b && is_negative(a) == is_negative(b);
}

// One descent of the columns.
template <class T>
class OneDescent {
 public:
  GDCORE_DEVICE OneDescent(const DescentColumns<T>& columns, int64_t i)
      : columns_(columns),
        i_(i),
        scale_{columns.divisor[i], columns.gradient[i]},
        weight_decay_(columns.weight_decay[i]),
        norm_bound_(columns.norm_bound[i]),
        down_(static_cast<T>(-columns.lr[i])),
        momentum_(static_cast<T>(columns.momentum[i])),
        damped_(static_cast<T>(columns.damped[i])),
        has_velocity_(columns.momentum[i] != 0),
        choices_(columns.choices[i]),
        decayed_(columns.decayed[i]),
        left_(columns.epochs[i]),
        every_(columns.every[i]),
        epoch_(columns.epoch[i]),
        first_loss_(columns.first_loss[i]),
        last_loss_(columns.last_loss[i]),
        moving_((columns.state[i] & moving) != 0),
        moved_((columns.state[i] & moved) != 0) {}

  GDCORE_DEVICE T param(int j) const { return columns_.params[j * columns_.count + i_]; }
  GDCORE_DEVICE T velocity(int j) const {
    return moving_ && has_velocity_ ? columns_.velocity[j * columns_.count + i_] : T(0);
  }

  GDCORE_DEVICE T gradient(double sum) const { return closed_gradient<T>(scale_, sum); }
  // An entry of the objective's gradient.
  GDCORE_DEVICE double entry(int j, T gradient, T param) const {
    const double decay = j < decayed_ ? weight_decay_ * static_cast<double>(param) : 0.0;
    const double sign = (choices_ & maximize) ? -1 : 1;
    return sign * static_cast<double>(gradient) + decay;
  }

  // Whether an epoch is to be measured: that of a step, or the one at the end.
  GDCORE_DEVICE bool measures() const { return left_ > 0 || (choices_ & measures_end) != 0; }
  // The measured epoch's loss and squared norm: true if the descent stops there.
  GDCORE_DEVICE bool stops(double squares, double norm_squares) {
    loss_ = closed_loss<T>(scale_, squares);
    const EndRules<DeviceNumber<T>> rules{norm_bound_, (choices_ & stop_on_equal_loss) != 0};
    may_end_ = gdcore::may_end<DeviceNumber<T>>(rules, loss_, last_loss_, norm_squares, moved_);
    return may_end_ || left_ == 0;
  }

  // A step of one parameter; true if a bit of it or of its velocity has changed.
  GDCORE_DEVICE bool step(int j, T gradient, T& param, T& velocity) const {
    const bool decays = j < decayed_ && weight_decay_ != 0;
    const StepRates<T, bool> rates{down_,
                                   momentum_,
                                   damped_,
                                   static_cast<T>(weight_decay_),
                                   decays,
                                   !moving_,
                                   (choices_ & nesterov) != 0};
    const T before = param, g = (choices_ & maximize) ? -gradient : gradient;
    if (!has_velocity_) {
      param = sgd_step<DeviceNumber<T>>(rates, param, g, static_cast<T*>(nullptr));
      return !same_bits(param, before);
    }
    T next = velocity;  // an address of a register of the caller's would put it into memory
    param = sgd_step<DeviceNumber<T>>(rates, param, g, &next);
    const bool changed = !moving_ || !same_bits(next, velocity) || !same_bits(param, before);
    velocity = next;
    return changed;
  }
  // After the steps of all parameters.
  GDCORE_DEVICE void end_epoch(bool changed) {
    moved_ = changed;
    moving_ = moving_ || has_velocity_;
    if (first_loss_ != first_loss_) first_loss_ = loss_;
    last_loss_ = loss_;
    ++epoch_;
    --left_;
    ++done_;
    records_ = every_ != 0 && epoch_ % every_ == 0;
  }

  GDCORE_DEVICE bool records() const { return records_; }
  GDCORE_DEVICE void record_loss() const {
    if (columns_.losses) columns_.losses[record_ * columns_.count + i_] = last_loss_;
  }
  GDCORE_DEVICE void record_param(int j, int size, T param) const {
    if (columns_.recorded) columns_.recorded[(record_ * size + j) * columns_.count + i_] = param;
  }
  GDCORE_DEVICE void end_record() { ++record_; }

  GDCORE_DEVICE void keep() const {
    columns_.epoch[i_] = epoch_;
    columns_.first_loss[i_] = first_loss_;
    columns_.last_loss[i_] = last_loss_;
    columns_.loss[i_] = loss_;
    columns_.state[i_] =
        (moving_ ? moving : 0u) | (moved_ ? moved : 0u) | (may_end_ ? may_end : 0u);
  }
  GDCORE_DEVICE void keep_param(int j, T param, T velocity, T previous) const {
    const int64_t at = j * columns_.count + i_;
    columns_.params[at] = param;
    if (has_velocity_) columns_.velocity[at] = velocity;
    if (done_ > 0) columns_.previous[at] = previous;
  }

 private:
  const DescentColumns<T>& columns_;
  int64_t i_;
  Scale scale_;
  double weight_decay_, norm_bound_;
  T down_, momentum_, damped_;
  bool has_velocity_;
  uint32_t choices_;
  int decayed_;
  int64_t left_, every_, epoch_, done_ = 0, record_ = 0;
  T first_loss_, last_loss_, loss_ = T(0);
  bool moving_, moved_, may_end_ = false, records_ = false;
};

}  // namespace gdcore::cuda
