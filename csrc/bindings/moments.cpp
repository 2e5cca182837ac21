#include "bindings/moments.hpp"

#include "bindings/either.hpp"
#include "bindings/problem.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"

namespace gdcore {
namespace {

Either<MomentsPass> moments_pass(const PyProblem& problem, const PyMoments* start) {
  return {problem.single(), [&](auto zero) {
            using T = decltype(zero);
            const Problem<T>& p = problem.as<T>();
            if (start) check_columns(start->get(), p);
            return start ? std::make_unique<MomentsPass<T>>(p, start->get())
                         : std::make_unique<MomentsPass<T>>(p);
          }};
}

bool advance_pass(const Either<MomentsPass>& pass, double seconds, int n_threads) {
  return pass.run(n_threads, [&](auto& p) {
    const FpEnv env;
    Budget budget(seconds);
    return p.run(budget);
  });
}

}  // namespace

PyMoments::PyMoments(int64_t d, int64_t t, const py::handle& hi, const py::handle& lo)
    : PyMoments(d, t) {
  const size_t size = moments_.hi.size();
  moments_.hi = vector_of<double>(hi);
  moments_.lo = vector_of<double>(lo);
  if (moments_.hi.size() != size || moments_.lo.size() != size)
    throw py::value_error("the moments' arrays belong to another number of columns.");
}

void register_moments(py::module_& m) {
  py::class_<PyMoments>(m, "Moments")
      .def(py::init<int64_t, int64_t>(), py::arg("d"), py::arg("t"))
      .def(py::init<int64_t, int64_t, const py::object&, const py::object&>(), py::arg("d"),
           py::arg("t"), py::arg("hi"), py::arg("lo"))
      .def("finite", [](const PyMoments& s) { return s.get().finite(); })
      .def("in_range", [](const PyMoments& s, bool single) { return s.get().in_range(single); })
      .def_property_readonly("hi", [](const PyMoments& s) { return copy_of(s.get().hi); })
      .def_property_readonly("lo", [](const PyMoments& s) { return copy_of(s.get().lo); });

  py::class_<Either<MomentsPass>>(m, "MomentsPass")
      .def(py::init(&moments_pass), py::keep_alive<1, 2>(), py::arg("problem"),
           py::arg("start") = nullptr)
      .def("advance", &advance_pass, py::arg("seconds"), py::arg("n_threads"))
      .def("moments",
           reading<MomentsPass>([](const auto& pass) { return PyMoments(pass.moments); }));
}

}  // namespace gdcore
