#include "bindings/problem.hpp"

#include <pybind11/stl.h>

#include "bindings/register.hpp"
#include "bindings/vectors.hpp"

namespace gdcore {
namespace {

// The last two dimensions of an array.
template <class T>
Matrix<const T> matrix_of(const py::array& a) {
  const Dims strides = strides_of<T>(a);
  return {static_cast<const T*>(a.data()), strides[strides.size() - 2], strides.back()};
}

// The last dimension of an array.
template <class T>
Vector<const T> vector_at(const py::array& a) {
  return {static_cast<const T*>(a.data()), strides_of<T>(a).back()};
}

template <class T>
Problem<T> problem_of(const py::array& X, const py::array& y,
                      const std::optional<py::array>& offset,
                      const std::optional<py::array>& sample_weight, bool fit_intercept,
                      Reduction reduction) {
  Problem<T> p{};
  p.n = X.shape(X.ndim() - 2);
  p.d = X.shape(X.ndim() - 1);
  p.t = y.shape(y.ndim() - 1);
  p.X = matrix_of<T>(X);
  p.y = matrix_of<T>(y);
  if (offset) p.offset = matrix_of<T>(*offset);
  if (sample_weight) p.sample_weight = vector_at<T>(*sample_weight);
  p.fit_intercept = fit_intercept;
  p.reduction = reduction;
  p.device = &host_device<T>();
  return p;
}

std::vector<py::array> present(const std::optional<py::array>& offset,
                               const std::optional<py::array>& sample_weight) {
  std::vector<py::array> arrays;
  if (offset) arrays.push_back(*offset);
  if (sample_weight) arrays.push_back(*sample_weight);
  return arrays;
}

}  // namespace

PyProblem::PyProblem(const py::array& X, const py::array& y, const std::optional<py::array>& offset,
                     const std::optional<py::array>& sample_weight, bool fit_intercept,
                     const py::object& reduction)
    : arrays_(present(offset, sample_weight)) {
  arrays_.insert(arrays_.end(), {X, y});
  const int64_t n = X.ndim() == 2 ? X.shape(0) : -1, t = y.ndim() == 2 ? y.shape(1) : -1;
  const auto fits = [&](const py::array& a, const Dims& shape) {
    return a.dtype().equal(X.dtype()) && shape_of(a) == shape;
  };
  if (n < 0 || t < 0 || !(usable(X, true) || usable(X, false)) || !fits(y, {n, t}) ||
      (offset && !fits(*offset, {n, t})) || (sample_weight && !fits(*sample_weight, {n})))
    throw py::value_error(
        "Problem needs X (n,d), y (n,t), offset (n,t) and sample_weight (n) of one floating "
        "dtype.");
  dispatch(X.itemsize() == 4, [&](auto zero) {
    problem_ = problem_of<decltype(zero)>(X, y, offset, sample_weight, fit_intercept,
                                          reduction_of(reduction));
  });
}

PyProblem PyProblem::scaled(const py::handle& scaling) const {
  PyProblem copy = *this;
  copy.scaling_ = std::make_shared<std::vector<double>>(vector_of<double>(scaling));
  std::visit(
      [&](auto& p) {
        if (static_cast<int64_t>(copy.scaling_->size()) != 2 * p.d + p.t)
          throw py::value_error(
              "the scaling belongs to another number of columns; make it of the moments of these "
              "rows.");
        p.scaling = copy.scaling_->data();
      },
      copy.problem_);
  return copy;
}

double PyProblem::largest_row() const {
  const FpEnv env;
  return compute(
      [&] { return std::visit([](const auto& p) { return gdcore::largest_row(p); }, problem_); });
}

PyProblems::PyProblems(const py::array& X, const py::array& y,
                       const std::optional<py::array>& offset,
                       const std::optional<py::array>& sample_weight, bool fit_intercept,
                       const py::object& reduction,
                       const std::optional<py::array_t<int64_t>>& starts,
                       const std::optional<py::array_t<int64_t>>& order)
    : arrays_(present(offset, sample_weight)) {
  arrays_.insert(arrays_.end(), {X, y});
  if (order) arrays_.push_back(*order);
  const bool stacked = !starts;
  const int dims = stacked ? 3 : 2;
  if (X.ndim() != dims || y.ndim() != dims)
    throw py::value_error(
        "Problems needs X (count,n,d) or, with starts, X (rows,d); y with as many dimensions.");
  dispatch(X.itemsize() == 4, [&](auto zero) {
    using T = decltype(zero);
    const auto step = [&](const py::array& a) { return stacked ? strides_of<T>(a)[0] : 0; };
    ManyRows<T> rows{};
    rows.all = problem_of<T>(X, y, offset, sample_weight, fit_intercept, reduction_of(reduction));
    rows.X_step = step(X);
    rows.y_step = step(y);
    if (offset) rows.offset_step = step(*offset);
    if (sample_weight) rows.weight_step = step(*sample_weight);
    rows.count = stacked ? X.shape(0) : starts->size() - 1;
    if (starts) rows.starts.assign(starts->data(), starts->data() + starts->size());
    if (order) rows.order = order->data();
    rows_ = std::move(rows);
  });
}

void register_problem(py::module_& m) {
  py::class_<PyProblem>(m, "Problem")
      .def(py::init<const py::array&, const py::array&, const std::optional<py::array>&,
                    const std::optional<py::array>&, bool, const py::object&>(),
           py::arg("X"), py::arg("y"), py::arg("offset"), py::arg("sample_weight"),
           py::arg("fit_intercept"), py::arg("reduction"))
      .def("scaled", &PyProblem::scaled, py::arg("scaling"))
      .def("largest_row", &PyProblem::largest_row);

  py::class_<PyProblems>(m, "Problems")
      .def(py::init<const py::array&, const py::array&, const std::optional<py::array>&,
                    const std::optional<py::array>&, bool, const py::object&,
                    const std::optional<py::array_t<int64_t>>&,
                    const std::optional<py::array_t<int64_t>>&>(),
           py::arg("X"), py::arg("y"), py::arg("offset"), py::arg("sample_weight"),
           py::arg("fit_intercept"), py::arg("reduction"), py::arg("starts"), py::arg("order"));
}

}  // namespace gdcore
