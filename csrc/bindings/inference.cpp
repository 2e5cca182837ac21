#include "bindings/inference.hpp"

#include <pybind11/stl.h>

#include "bindings/moments.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"
#include "fit/cholesky.hpp"
#include "fit/pivoted_cholesky.hpp"

namespace gdcore {

PyInference::PyInference(bool single, LeastSquares solved, Covariance kind)
    : inference_(single, [&](auto zero) {
        auto inference = std::make_unique<Inference<decltype(zero)>>();
        inference->solved = std::move(solved);
        inference->begin(kind);
        return inference;
      }) {}

bool PyInference::needs_rows() const {
  return inference_.visit([](const auto& inference) { return inference.needs_rows(); });
}

void PyInference::begin_rows(const PyProblem& rows) {
  inference_.visit([&](auto& inference) {
    using T = Number<decltype(inference)>;
    const Problem<T>& p = rows.as<T>();
    if (p.size() != inference.solved.p * inference.solved.t || p.t != inference.solved.t)
      throw py::value_error("these rows have other features or targets than those solved.");
    inference.begin_rows(p);
  });
  rows_ = rows;
}

bool PyInference::advance(double seconds, int n_threads) const {
  return gdcore::advance(inference_, seconds, n_threads);
}

py::tuple PyInference::result() const {
  return inference_.visit([](auto& inference) {
    Inferences one;
    one.reset(1, inference.solved.p, inference.solved.t);
    compute([&] {
      inference.write(one.at(0));
      return 0;
    });
    return py::make_tuple(copy_of(one.covariance), copy_of(one.sigma2), copy_of(one.r2),
                          one.df_resid[0], static_cast<int>(one.flaw[0]));
  });
}

namespace {

// From float64 moments of float32 rows, whose residuals the rows tell; None where `solve_normal`
// is.
std::optional<PyInference> infer_normal(const PyProblem& problem, const PyMoments& moments,
                                        const ExactOptions& options) {
  return dispatch(problem.single(), [&](auto zero) -> std::optional<PyInference> {
    using T = decltype(zero);
    const Problem<T>& p = problem.as<T>();
    check_columns(moments.get(), p);
    LeastSquares solved;
    const bool known = compute([&] {
      const FpEnv env;
      const int64_t size = Quadratic<T>::packed_size(p.size() / p.t, p.t);
      std::vector<double> packed(static_cast<size_t>(size));
      Quadratic<T>::pack(moments.get(), p.fit_intercept, nullptr, packed.data());
      NormalEquations<T> normal;
      if (!normal.solve(p, packed.data(), options)) return false;
      normal.describe(p, packed.data(), solved);
      return true;
    });
    if (!known) return std::nullopt;
    return PyInference(problem.single(), std::move(solved), options.covariance);
  });
}

// From moments in pairs; `rows` have a weight above 0.
PyInference infer_moments(const PyProblem& problem, const PyMoments& moments,
                          const ExactOptions& options, int64_t rows) {
  return dispatch(problem.single(), [&](auto zero) {
    using T = decltype(zero);
    const Problem<T>& p = problem.as<T>();
    check_columns(moments.get(), p);
    LeastSquares solved = compute([&] {
      const FpEnv env;
      LeastSquares found;
      describe(p, moments.get(), options, found);
      found.rows = rows;
      found.squares_known = options.covariance == Covariance::ols;
      return found;
    });
    return PyInference(problem.single(), std::move(solved), options.covariance);
  });
}

}  // namespace

void register_inference(py::module_& m) {
  py::class_<PyInference>(m, "Inference")
      .def_property_readonly("needs_rows", &PyInference::needs_rows)
      .def("begin_rows", &PyInference::begin_rows, py::arg("rows"))
      .def("advance", &PyInference::advance, py::arg("seconds"), py::arg("n_threads"))
      .def("result", &PyInference::result);
  m.def("infer_normal", &infer_normal, py::arg("problem"), py::arg("moments"), py::arg("options"));
  m.def("infer_moments", &infer_moments, py::arg("problem"), py::arg("moments"), py::arg("options"),
        py::arg("rows"));
}

}  // namespace gdcore
