// The linear model under every loss but the squared error. A unit of its own, so that what the
// compiler inlines for the squared error does not depend on the other losses.
#include "linear.hpp"
#include "names.hpp"

namespace {

template <class T, template <class> class First, template <class> class... Others>
constexpr gdcore::OtherLosses<T> other_losses(gdcore::LossList<First, Others...>) {
  return {{linear_kernels<T, Others>...}};
}

}  // namespace

namespace gdcore {

extern const OtherLosses<float> GDCORE_NAME(losses_, _f32);
extern const OtherLosses<double> GDCORE_NAME(losses_, _f64);
const OtherLosses<float> GDCORE_NAME(losses_, _f32) = other_losses<float>(Losses());
const OtherLosses<double> GDCORE_NAME(losses_, _f64) = other_losses<double>(Losses());

}  // namespace gdcore
