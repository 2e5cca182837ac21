#include "fit/rolling.hpp"

#include "bindings/either.hpp"
#include "bindings/problem.hpp"
#include "bindings/register.hpp"
#include "bindings/state.hpp"
#include "bindings/vectors.hpp"

namespace gdcore {
namespace {

Either<Rolling> rolling_fits(const PyProblem& problem, const py::object& start,
                             const RollingOptions& options) {
  return {problem.single(), [&](auto zero) {
            using T = decltype(zero);
            const Problem<T>& p = problem.as<T>();
            auto params = vector_of<T>(start);
            if (options.window < 1 || options.window > p.n || options.step < 1 ||
                options.epochs < 0 || static_cast<int64_t>(params.size()) != p.size())
              throw py::value_error(
                  "Rolling needs windows of 1 to n rows, a step of 1 or more, and a start with all "
                  "parameters.");
            return std::make_unique<Rolling<T>>(p, options, std::move(params));
          }};
}

py::list names_of(const std::vector<std::optional<Outcome>>& outcomes) {
  py::list names;
  for (const auto& outcome : outcomes)
    names.append(outcome ? py::object(py::str(name_of(*outcome))) : py::object(py::none()));
  return names;
}

// Covers the windows finished so far.
template <class T>
py::dict dict_of(const RollingResults<T>& results) {
  py::dict d;
  d["params"] = copy_of(results.params);
  d["loss"] = copy_of(results.loss);
  d["first_loss"] = copy_of(results.first_loss);
  d["lr"] = copy_of(results.lr);
  d["momentum"] = copy_of(results.momentum);
  d["r2_lost"] = copy_of(results.r2_lost);
  d["curvature"] = copy_of(results.curvature);
  d["epochs"] = copy_of(results.epochs);
  d["rank"] = copy_of(results.rank);
  d["outcome"] = names_of(results.outcome);
  return d;
}

}  // namespace

void register_rolling(py::module_& m) {
  py::class_<Either<Rolling>>(m, "Rolling")
      .def(py::init(&rolling_fits), py::keep_alive<1, 2>(), py::arg("problem"), py::arg("start"),
           py::arg("options"))
      .def("advance", &advance<Rolling>, py::arg("seconds"), py::arg("n_threads"))
      .def("results", reading<Rolling>([](const auto& r) { return dict_of(r.results()); }))
      .def_property_readonly("done", reading<Rolling>([](const auto& r) { return r.done(); }))
      .def_property_readonly("recomputed",
                             reading<Rolling>([](const auto& r) { return r.recomputed(); }))
      .def_property_readonly("out_of_range",
                             reading<Rolling>([](const auto& r) { return r.out_of_range(); }));
}

}  // namespace gdcore
