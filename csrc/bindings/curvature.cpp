#include "fit/curvature.hpp"

#include "bindings/either.hpp"
#include "bindings/moments.hpp"
#include "bindings/problem.hpp"
#include "bindings/register.hpp"

namespace gdcore {
namespace {

Either<Spectrum> spectrum_of(const PyProblem& problem, const PyMoments* moments) {
  return {problem.single(), [&](auto zero) {
            using T = decltype(zero);
            const Problem<T>& p = problem.as<T>();
            return std::make_unique<Spectrum<T>>(p, address(quadratic_of<T>(moments, p)));
          }};
}

}  // namespace

void register_curvature(py::module_& m) {
  py::class_<Either<Spectrum>>(m, "Spectrum")
      .def(py::init(&spectrum_of), py::keep_alive<1, 2>(), py::arg("problem"),
           py::arg("moments") = nullptr)
      .def("advance", &advance<Spectrum>, py::arg("seconds"), py::arg("n_threads"))
      .def_property_readonly("largest",
                             reading<Spectrum>([](const auto& s) { return s.largest(); }))
      .def_property_readonly("residual",
                             reading<Spectrum>([](const auto& s) { return s.residual(); }));
}

}  // namespace gdcore
