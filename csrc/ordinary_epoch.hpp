// The arithmetic of an ordinary epoch of gradient descent, for one descent or for a vector of them:
// when the epoch may be the last, and how it steps. Free of the standard library.
#pragma once

#include "hd.hpp"

namespace gdcore {

// The operations of one number. For vectors, Answer is a mask and `pick` chooses lane by lane.
template <class T>
struct OneNumber {
  typedef T Number;
  typedef double Double;
  typedef bool Answer;

  GDCORE_HD static float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  GDCORE_HD static double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
  GDCORE_HD static bool answer(bool yes) { return yes; }
  GDCORE_HD static bool no(bool yes) { return !yes; }
  // yes ? value() : other
  template <class X, class Value>
  GDCORE_HD static X pick(bool yes, const Value& value, X other) {
    return yes ? value() : other;
  }
};

// When a descent may end. norm_bound: it cannot have arrived where its gradient's norm is larger;
// below 0: it ends neither by arriving nor by standing still.
template <class Ops>
struct EndRules {
  typename Ops::Double norm_bound;
  bool stop_on_equal_loss;
};

// Whether an epoch that finds this loss and this squared norm may be the last, or finds a number
// out of the ordinary. Where it is false, the epoch ends nothing whatever else is known.
template <class Ops>
GDCORE_HD inline typename Ops::Answer may_end(const EndRules<Ops>& rules, typename Ops::Number loss,
                                              typename Ops::Number last_loss,
                                              typename Ops::Double squares,
                                              typename Ops::Answer moved) {
  typedef typename Ops::Answer Answer;
  const typename Ops::Double bound = rules.norm_bound;
  const Answer usual =
      Ops::answer(loss - loss == 0) & (squares - squares == 0) & (squares > 1e-200);
  // The squares may be rounded down where the norm's bound is not: a little more may end.
  const Answer small = squares <= bound * bound * (1 + 0x1p-40) + 1e-200;
  const Answer unusual = Ops::no(usual), still = Ops::no(moved);
  Answer ends = unusual | ((bound >= 0) & (small | still));
  if (rules.stop_on_equal_loss) ends |= Ops::answer(loss == last_loss);
  return ends;
}

// The constants of a step of torch.optim.SGD. first: the velocity is made, not read.
template <class X, class Choice>
struct StepRates {
  X down, momentum, damped, decay;  // down: minus the learning rate; damped: 1 - dampening
  Choice decays, first;
  bool nesterov;
};

// A parameter after a step. velocity is null without momentum.
template <class Ops, class X, class Choice>
GDCORE_HD inline X sgd_step(const StepRates<X, Choice>& rates, X param, X gradient, X* velocity) {
  X g = Ops::pick(rates.decays, [&] { return Ops::fma(rates.decay, param, gradient); }, gradient);
  if (velocity) {
    const X given = g, before = *velocity;
    *velocity = Ops::pick(
        rates.first, [&] { return given; }, Ops::fma(rates.damped, given, rates.momentum * before));
    g = rates.nesterov ? Ops::fma(rates.momentum, *velocity, given) : *velocity;
  }
  return Ops::fma(rates.down, g, param);
}

}  // namespace gdcore
