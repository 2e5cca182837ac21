#include "fit/rolling.hpp"

#include "bindings/either.hpp"
#include "bindings/problem.hpp"
#include "bindings/register.hpp"
#include "bindings/state.hpp"
#include "bindings/vectors.hpp"

namespace gdcore {
namespace {

using Int64s = py::array_t<int64_t>;

// Windows with a row each, of which neither the first nor the last rows ever fall.
std::vector<Window> windows_of(const Int64s& begins, const Int64s& ends, int64_t rows) {
  const auto begin = begins.unchecked<1>(), end = ends.unchecked<1>();
  std::vector<Window> windows(static_cast<size_t>(begin.shape(0)));
  if (end.shape(0) != begin.shape(0)) throw py::value_error("each window has a begin and an end.");
  Window last{0, 0};
  for (Window& window : windows) {
    const auto i = static_cast<py::ssize_t>(&window - windows.data());
    window = {begin(i), end(i)};
    if (window.begin < last.begin || window.end < last.end || window.begin >= window.end ||
        window.end > rows)
      throw py::value_error("windows are ranges of 1 to n rows that never fall.");
    last = window;
  }
  return windows;
}

// ages: None, or one for each row, never falling within a window.
Either<Rolling> rolling_fits(const PyProblem& problem, const py::object& start,
                             const RollingOptions& options, const Int64s& begins,
                             const Int64s& ends, const py::object& ages, double half_life) {
  return {problem.single(), [&](auto zero) {
            using T = decltype(zero);
            RollingTask<T> task{problem.as<T>(), options, vector_of<T>(start), {}};
            const auto age = ages.is_none() ? std::vector<double>{} : vector_of<double>(ages);
            if (static_cast<int64_t>(task.start.size()) != task.problem.size() ||
                !(age.empty() || static_cast<int64_t>(age.size()) == task.problem.n))
              throw py::value_error("Rolling needs a start with all parameters, and all ages.");
            task.decay = Decay<T>(age, half_life);
            return std::make_unique<Rolling<T>>(std::move(task),
                                                windows_of(begins, ends, problem.as<T>().n));
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
py::dict dict_of(const Rolling<T>& rolling) {
  const RollingResults<T>& results = rolling.results();
  const int64_t done = rolling.done();
  py::dict d;
  const auto put = [&](const char* name, auto values, int64_t size = 1) {
    values.resize(static_cast<size_t>(done * size));
    d[name] = copy_of(values);
  };
  put("params", results.params, rolling.parameters());
  put("loss", results.loss);
  put("first_loss", results.first_loss);
  put("lr", results.lr);
  put("momentum", results.momentum);
  put("r2_lost", results.r2_lost);
  put("curvature", results.curvature);
  put("epochs", results.epochs);
  put("rank", results.rank);
  d["outcome"] = names_of({results.outcome.begin(), results.outcome.begin() + done});
  return d;
}

}  // namespace

void register_rolling(py::module_& m) {
  py::class_<Either<Rolling>>(m, "Rolling")
      .def(py::init(&rolling_fits), py::keep_alive<1, 2>(), py::arg("problem"), py::arg("start"),
           py::arg("options"), py::arg("begins"), py::arg("ends"), py::arg("ages") = py::none(),
           py::arg("half_life") = 1.0)
      .def("advance", &advance<Rolling>, py::arg("seconds"), py::arg("n_threads"))
      .def("results", reading<Rolling>([](const auto& r) { return dict_of(r); }))
      .def_property_readonly("done", reading<Rolling>([](const auto& r) { return r.done(); }))
      .def_property_readonly("recomputed",
                             reading<Rolling>([](const auto& r) { return r.recomputed(); }))
      .def_property_readonly("out_of_range",
                             reading<Rolling>([](const auto& r) { return r.out_of_range(); }));
}

}  // namespace gdcore
