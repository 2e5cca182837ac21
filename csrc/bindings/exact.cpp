#include "fit/exact.hpp"

#include "bindings/either.hpp"
#include "bindings/inference.hpp"
#include "bindings/moments.hpp"
#include "bindings/problem.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"
#include "fit/cholesky.hpp"
#include "fit/pivoted_cholesky.hpp"

namespace gdcore {
namespace {

template <class T>
py::tuple tuple_of(const Solution<T>& solution) {
  return py::make_tuple(copy_of(solution.params), solution.rank);
}

// A factorisation, and the rows that it is reading.
class PyExact {
 public:
  PyExact(const PyProblem& rows, const ExactOptions& options)
      : rows_(rows), covariance_(options.covariance), exact_(rows.single(), [&](auto zero) {
          using T = decltype(zero);
          return std::make_unique<Exact<T>>(rows_.as<T>(), options);
        }) {}
  bool advance(double seconds) { return gdcore::advance(exact_, seconds, 0); }
  void go_on(const PyProblem& rows) {
    exact_.visit([&](auto& exact) {
      using T = Number<decltype(exact)>;
      const Problem<T>&was = rows_.as<T>(), &now = rows.as<T>();
      if (now.d != was.d || now.t != was.t || now.fit_intercept != was.fit_intercept)
        throw py::value_error("these rows have other features or targets than those before.");
      exact.go_on(now);
    });
    rows_ = rows;
  }
  py::tuple solve() {
    LeastSquares* const solved = covariance_ == Covariance::none ? nullptr : &solved_;
    return exact_.visit(
        [&](auto& exact) { return tuple_of(compute([&] { return exact.solve(solved); })); });
  }
  // After solve(), if the options name a covariance.
  PyInference inference() const { return {rows_.single(), solved_, covariance_}; }

 private:
  PyProblem rows_;
  Covariance covariance_;
  LeastSquares solved_;
  Either<Exact> exact_;
};

// Parameters and loss, None for a loss below the noise of the moments; None for both if the moments
// do not suffice.
py::object solve_normal(const PyProblem& problem, const PyMoments& moments,
                        const ExactOptions& options) {
  return dispatch(problem.single(), [&](auto zero) -> py::object {
    using T = decltype(zero);
    const Problem<T>& p = problem.as<T>();
    check_columns(moments.get(), p);
    NormalEquations<T> normal;
    const bool solved = compute([&] {
      const FpEnv env;
      std::vector<double> packed(
          static_cast<size_t>(Quadratic<T>::packed_size(p.size() / p.t, p.t)));
      Quadratic<T>::pack(moments.get(), p.fit_intercept, nullptr, packed.data());
      return normal.solve(p, packed.data(), options);
    });
    if (!solved) return py::none();
    const py::object loss =
        normal.loss_known() ? py::object(py::float_(normal.loss())) : py::none();
    return py::make_tuple(copy_of(normal.params()), loss);
  });
}

// Parameters and rank.
py::tuple solve_moments(const PyProblem& problem, const PyMoments& moments,
                        const ExactOptions& options) {
  return dispatch(problem.single(), [&](auto zero) {
    using T = decltype(zero);
    const Problem<T>& p = problem.as<T>();
    check_columns(moments.get(), p);
    return tuple_of(compute([&] {
      const FpEnv env;
      return solve(p, moments.get(), options);
    }));
  });
}

}  // namespace

void register_exact(py::module_& m) {
  py::class_<PyExact>(m, "Exact")
      .def(py::init<const PyProblem&, const ExactOptions&>(), py::arg("problem"),
           py::arg("options"))
      .def("advance", &PyExact::advance, py::arg("seconds"))
      .def("go_on", &PyExact::go_on, py::arg("rows"))
      .def("solve", &PyExact::solve)
      .def("inference", &PyExact::inference);
  m.def("solve_normal", &solve_normal, py::arg("problem"), py::arg("moments"), py::arg("options"));
  m.def("solve_moments", &solve_moments, py::arg("problem"), py::arg("moments"),
        py::arg("options"));
}

}  // namespace gdcore
