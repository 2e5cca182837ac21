#include "fit/descent.hpp"

#include <pybind11/stl.h>

#include "bindings/either.hpp"
#include "bindings/moments.hpp"
#include "bindings/problem.hpp"
#include "bindings/register.hpp"
#include "bindings/state.hpp"
#include "bindings/vectors.hpp"

namespace gdcore {
namespace {

using PyDescent = Either<Descent>;

PyDescent descent_of(const PyProblem& problem, const py::dict& state, int64_t target_epoch,
                     const DescentOptions& options, const PyMoments* moments, bool from_rows) {
  return {problem.single(), [&](auto zero) {
            using T = decltype(zero);
            const Problem<T>& p = problem.as<T>();
            return std::make_unique<Descent<T>>(p, options, state_from<T>(p, state), target_epoch,
                                                address(quadratic_of<T>(moments, p)), from_rows);
          }};
}

// For the loss at the parameters alone: over the rows, or by their moments.
PyDescent descent_of_no_epochs(const PyProblem& problem, const py::object& params,
                               const PyMoments* moments) {
  return {problem.single(), [&](auto zero) {
            using T = decltype(zero);
            const Problem<T>& p = problem.as<T>();
            DescentState<T> state;
            state.params = vector_of<T>(params);
            if (static_cast<int64_t>(state.params.size()) != p.size())
              throw py::value_error("the parameters belong to another problem.");
            return std::make_unique<Descent<T>>(p, DescentOptions{}, state, 0,
                                                address(quadratic_of<T>(moments, p)));
          }};
}

void set_start(const PyDescent& descent, int64_t epoch, const py::object& params) {
  descent.visit([&](auto& d) { d.set_start(epoch, vector_of<Number<decltype(d)>>(params)); });
}

const char* advance_descent(const PyDescent& descent, double seconds, int n_threads) {
  return name_of(descent.run(n_threads, [&](auto& d) { return d.advance(seconds); }));
}

bool feed(const PyDescent& descent, const PyProblem& piece, uint64_t seed, double seconds,
          int n_threads) {
  return descent.run(n_threads, [&](auto& d) {
    using T = Number<decltype(d)>;
    const Problem<T>&own = d.problem(), &p = piece.as<T>();
    if (p.d != own.d || p.t != own.t || p.fit_intercept != own.fit_intercept)
      throw py::value_error("the piece does not belong to this descent: its columns differ.");
    return d.feed(p, seed, seconds);
  });
}

// Epochs, losses and (if recorded) parameters of the history so far.
template <class T>
py::tuple tuple_of(const DescentHistory<T>& history) {
  return py::make_tuple(copy_of(history.epoch), copy_of(history.loss), copy_of(history.params));
}

}  // namespace

void register_descent(py::module_& m) {
  const auto locked = [](auto f) { return [f](const PyDescent& d) { return d.locked(f); }; };
  py::class_<PyDescent>(m, "Descent")
      .def(py::init(&descent_of), py::keep_alive<1, 2>(), py::arg("problem"), py::arg("state"),
           py::arg("target_epoch"), py::arg("options"), py::arg("moments") = nullptr,
           py::arg("from_rows") = false)
      .def_static("of_no_epochs", &descent_of_no_epochs, py::keep_alive<0, 1>(), py::arg("problem"),
                  py::arg("params"), py::arg("moments") = nullptr)
      .def("set_start", &set_start, py::arg("epoch"), py::arg("params"))
      .def(
          "set_constant_lr",
          [](const PyDescent& descent, double lr) {
            descent.visit([&](auto& d) { d.set_constant_lr(lr); });
          },
          py::arg("lr"))
      .def(
          "set_schedule",
          [](const PyDescent& descent, int64_t first, const std::vector<double>& lrs) {
            descent.visit([&](auto& d) { d.set_schedule(first, lrs); });
          },
          py::arg("first"), py::arg("lrs"))
      .def("advance", &advance_descent, py::arg("seconds"), py::arg("n_threads"))
      .def("begin_pass", locked([](auto& d) { return d.begin_pass(); }))
      .def("feed", &feed, py::arg("piece"), py::arg("seed"), py::arg("seconds"),
           py::arg("n_threads"))
      .def("end_pass", locked([](auto& d) { return name_of(d.end_pass()); }))
      .def("state", locked([](auto& d) { return dict_from(d.state()); }))
      .def("history", locked([](auto& d) { return tuple_of(d.history()); }))
      .def_property_readonly(
          "loss", reading<Descent>([](const auto& d) { return static_cast<double>(d.loss()); }))
      .def_property_readonly("last_loss", reading<Descent>([](const auto& d) {
                               return static_cast<double>(d.state().last_loss);
                             }))
      .def_property_readonly("lr", reading<Descent>([](const auto& d) { return d.lr(); }))
      .def_property_readonly("r2_lost",
                             locked([](auto& d) { return compute([&] { return d.r2_lost(); }); }))
      .def_property_readonly("loss_doubtful",
                             reading<Descent>([](const auto& d) { return d.loss_below_noise(); }))
      .def_property_readonly("least_known_loss", reading<Descent>([](const auto& d) {
                               return static_cast<double>(d.loss_of_noise());
                             }))
      .def_property_readonly("epoch",
                             reading<Descent>([](const auto& d) { return d.state().epoch; }));
}

}  // namespace gdcore
