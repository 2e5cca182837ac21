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
            return start ? std::make_unique<MomentsPass<T>>(p, start->open())
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

PyMoments::PyMoments(int64_t d, int64_t t, int64_t segments, const py::sequence& levels)
    : PyMoments(d, t) {
  const size_t size = open_.hi.size();
  std::vector<Moments::Level> given;
  for (const auto& level : levels) {
    const auto pair = level.cast<py::tuple>();
    given.push_back({vector_of<double>(pair[0]), vector_of<double>(pair[1])});
    if (given.back().hi.size() != size || given.back().lo.size() != size)
      throw py::value_error("the moments' arrays belong to another number of columns.");
  }
  if (segments < 0 || given.empty() || given.size() > sum_levels)
    throw py::value_error("moments have 0 or more segments, in 1 to 4 levels.");
  open_.hi.swap(given[0].hi);
  open_.lo.swap(given[0].lo);
  open_.segments = segments;
  open_.upper.assign(given.begin() + 1, given.end());
  close();
}

void PyMoments::close() {
  if (open_.upper.empty()) return;
  closed_ = open_;
  closed_->close();
}

py::tuple PyMoments::levels() const {
  py::list all;
  all.append(py::make_tuple(copy_of(open_.hi), copy_of(open_.lo)));
  for (const Moments::Level& level : open_.upper)
    all.append(py::make_tuple(copy_of(level.hi), copy_of(level.lo)));
  return py::tuple(all);
}

void register_moments(py::module_& m) {
  py::class_<PyMoments>(m, "Moments")
      .def(py::init<int64_t, int64_t>(), py::arg("d"), py::arg("t"))
      .def(py::init<int64_t, int64_t, int64_t, const py::sequence&>(), py::arg("d"), py::arg("t"),
           py::arg("segments"), py::arg("levels"))
      .def("finite", [](const PyMoments& s) { return s.get().finite(); })
      .def("in_range", [](const PyMoments& s, bool single) { return s.get().in_range(single); })
      .def_property_readonly("segments", [](const PyMoments& s) { return s.open().segments; })
      .def_property_readonly("levels", &PyMoments::levels)
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
