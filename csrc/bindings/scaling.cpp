// Standardised columns: the scaling of second moments, and parameters to it and back.
#include "fit/scaling.hpp"

#include "bindings/moments.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"

namespace gdcore {
namespace {

py::array_t<double> scaling_of(const PyMoments& moments, bool fit_intercept, bool single) {
  const Moments& m = moments.get();
  std::vector<double> scaling(static_cast<size_t>(2 * m.d + m.t));
  const FpEnv env;
  single ? find_scaling<float>(m, fit_intercept, scaling.data())
         : find_scaling<double>(m, fit_intercept, scaling.data());
  return copy_of(scaling);
}

// Parameters (count, p) to or from those of standardised columns; scaling (count, 2 d + t).
py::array rescaled(const py::array& params, const py::array_t<double, aligned_dense>& scaling,
                   int64_t d, int64_t t, bool fit_intercept, bool to) {
  return dispatch(params.itemsize() == 4, [&](auto zero) -> py::array {
    using T = decltype(zero);
    std::vector<T> all = vector_of<T>(params);
    const int64_t p = (d + (fit_intercept ? 1 : 0)) * t, each = 2 * d + t;
    const int64_t count = each > 0 ? scaling.size() / each : 0;
    if (p * count != static_cast<int64_t>(all.size()))
      throw py::value_error("the scaling does not belong to these parameters: its size differs.");
    const FpEnv env;
    for (int64_t i = 0; i < count; ++i)
      (to ? to_scaled<T> : from_scaled<T>)(scaling.data() + i * each, d, t, fit_intercept,
                                           all.data() + i * p);
    return copy_of(all);
  });
}

}  // namespace

void register_scaling(py::module_& m) {
  m.def("scaling_of", &scaling_of, py::arg("moments"), py::arg("fit_intercept"), py::arg("single"));
  m.def("rescaled", &rescaled, py::arg("params"), py::arg("scaling"), py::arg("d"), py::arg("t"),
        py::arg("fit_intercept"), py::arg("to"));
}

}  // namespace gdcore
