#include "fit/outlook.hpp"

#include <limits>

#include "bindings/either.hpp"
#include "bindings/moments.hpp"
#include "bindings/problem.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"

namespace gdcore {
namespace {

// What moments say about a descent before its first step.
template <class T>
struct Forecast {
  Quadratic<T> quadratic;
  Goal<T> goal;
  Outlook<T> outlook;
  bool has_spectrum = false;  // otherwise the outlook is empty

  Forecast(const Problem<T>& problem, const Moments& moments, const T* start, const SgdOptions& sgd,
           double tol) {
    const FpEnv env;
    quadratic.assign(moments, problem.fit_intercept, problem.scaling);
    const Objective objective = problem.objective(quadratic.sample_weight(), sgd);
    goal.assign(quadratic, objective, tol, problem.returned());
    has_spectrum = goal.known() && quadratic.parameters() <= Outlook<T>::most_parameters;
    if (has_spectrum) outlook.assign(quadratic, objective, goal, start);
  }
};
using PyForecast = Either<Forecast>;

PyForecast forecast(const PyProblem& problem, const PyMoments& moments, const py::handle& start,
                    const SgdOptions& sgd, double tol) {
  return {problem.single(), [&](auto zero) {
            using T = decltype(zero);
            const Problem<T>& p = problem.as<T>();
            check_columns(moments.get(), p);
            const auto params = vector_of<T>(start);
            if (static_cast<int64_t>(params.size()) != p.size())
              throw py::value_error("the start does not belong to this problem: its size differs.");
            return compute([&] {
              return std::make_unique<Forecast<T>>(p, moments.get(), params.data(), sgd, tol);
            });
          }};
}

int64_t epochs(const PyForecast& forecast, double lr, const SgdOptions& sgd) {
  return forecast.visit([&](const auto& f) { return f.outlook.epochs(sgd, lr); });
}

double r2_lost_after(const PyForecast& forecast, int64_t epochs, double lr, const SgdOptions& sgd) {
  return forecast.visit([&](const auto& f) { return f.outlook.r2_lost(sgd, lr, epochs); });
}

py::tuple heavy_ball(const PyForecast& forecast, int64_t epochs, double lr, double momentum) {
  return forecast.visit([&](const auto& f) {
    const auto rates = f.outlook.heavy_ball(epochs, {lr, momentum});
    return py::make_tuple(rates.lr, rates.momentum);
  });
}

}  // namespace

void register_outlook(py::module_& m) {
  constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  py::class_<PyForecast>(m, "Outlook")
      .def(py::init(&forecast), py::keep_alive<1, 2>(), py::arg("problem"), py::arg("moments"),
           py::arg("start"), py::arg("sgd"), py::arg("tol"))
      .def_readonly_static("most_parameters", &Outlook<double>::most_parameters)
      .def_property_readonly("known",
                             reading<Forecast>([](const auto& f) { return f.goal.known(); }))
      .def_property_readonly("spectrum",
                             reading<Forecast>([](const auto& f) { return f.has_spectrum; }))
      .def_property_readonly("rank", reading<Forecast>([](const auto& f) { return f.goal.rank(); }))
      .def_property_readonly("largest",
                             reading<Forecast>([](const auto& f) { return f.outlook.largest(); }))
      .def_property_readonly("condition",
                             reading<Forecast>([](const auto& f) { return f.outlook.condition(); }))
      .def("epochs", &epochs, py::arg("lr"), py::arg("sgd"))
      .def("r2_lost_after", &r2_lost_after, py::arg("epochs"), py::arg("lr"), py::arg("sgd"))
      .def("heavy_ball", &heavy_ball, py::arg("epochs"), py::arg("lr") = unknown,
           py::arg("momentum") = unknown);
}

}  // namespace gdcore
