#include "bindings/problem.hpp"

#include <pybind11/stl.h>

#include "bindings/register.hpp"
#include "bindings/vectors.hpp"
#include "cuda/counts.hpp"

namespace gdcore {
namespace {

// The arrays of rows, of one dtype and in one place. offset and sample_weight may be absent.
struct RowArrays {
  Array X, y, offset, sample_weight;

  RowArrays(const py::object& X_, const py::object& y_, const py::object& offset_,
            const py::object& sample_weight_)
      : X(prepared(X_)),
        y(prepared(y_)),
        offset(prepared(offset_)),
        sample_weight(prepared(sample_weight_)) {
    if (!X || !y || !fits(y) || !fits(offset) || !fits(sample_weight))
      throw py::value_error("the arrays of a problem must be of one dtype and in one place.");
    wait_for_caller();
  }
  std::vector<py::object> owners() const {
    return {X.owner, y.owner, offset.owner, sample_weight.owner};
  }

 private:
  bool fits(const Array& a) const {
    return !a || (a.single == X.single && a.where.on_device == X.where.on_device &&
                  a.where.place.ordinal == X.where.place.ordinal);
  }
  // Fits work on gdcore's own stream, which does not wait for the caller's.
  void wait_for_caller() const {
    if (!X.where.on_device) return;
    for (const Array* a : {&X, &y, &offset, &sample_weight}) {
      if (!*a) continue;
      compute([&] { cuda::synchronize(a->where.place); });
    }
  }
};

// The last two dimensions of an array.
template <class T>
Matrix<const T> matrix_of(const Array& a) {
  if (!a) return {};
  return {data_of<const T>(a), a.strides[a.strides.size() - 2], a.strides.back()};
}

// The last dimension of an array.
template <class T>
Vector<const T> vector_at(const Array& a) {
  if (!a) return {};
  return {data_of<const T>(a), a.strides.back()};
}

template <class T>
Problem<T> problem_of(const RowArrays& a, bool fit_intercept, Reduction reduction) {
  Problem<T> p{};
  p.n = a.X.shape[a.X.shape.size() - 2];
  p.d = a.X.shape.back();
  p.t = a.y.shape.back();
  p.X = matrix_of<T>(a.X);
  p.y = matrix_of<T>(a.y);
  p.offset = matrix_of<T>(a.offset);
  p.sample_weight = vector_at<T>(a.sample_weight);
  p.fit_intercept = fit_intercept;
  p.reduction = reduction;
  p.device = &device_of<T>(a.X.where);
  return p;
}

}  // namespace

PyProblem::PyProblem(const py::object& X, const py::object& y, const py::object& offset,
                     const py::object& sample_weight, bool fit_intercept,
                     const py::object& reduction) {
  const RowArrays a(X, y, offset, sample_weight);
  const int64_t n = a.X.shape.size() == 2 ? a.X.shape[0] : -1;
  const int64_t t = a.y.shape.size() == 2 ? a.y.shape[1] : -1;
  const auto fits = [](const Array& array, const Dims& shape) {
    return !array || array.shape == shape;
  };
  if (n < 0 || t < 0 || !fits(a.y, {n, t}) || !fits(a.offset, {n, t}) ||
      !fits(a.sample_weight, {n}))
    throw py::value_error(
        "Problem needs X (n,d), y (n,t), offset (n,t) and sample_weight (n) of one floating "
        "dtype.");
  owners_ = a.owners();
  dispatch(a.X.single, [&](auto zero) {
    problem_ = problem_of<decltype(zero)>(a, fit_intercept, reduction_of(reduction));
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

py::array PyProblem::count_nonzero() const {
  const std::vector<int64_t> counts = compute([&] {
    return std::visit(
        [](const auto& p) {
          if (p.device->of_host) throw std::logic_error("NumPy counts what is on the host");
          auto all = cuda::count_nonzero(p.n, p.d, p.X, {}, p.sample_weight);
          const auto targets = cuda::count_nonzero(p.n, p.t, p.y, p.offset, p.sample_weight);
          all.insert(all.end(), targets.begin(), targets.end());
          return all;
        },
        problem_);
  });
  return py::array_t<int64_t>(static_cast<py::ssize_t>(counts.size()), counts.data());
}

PyProblems::PyProblems(const py::object& X, const py::object& y, const py::object& offset,
                       const py::object& sample_weight, bool fit_intercept,
                       const py::object& reduction,
                       const std::optional<py::array_t<int64_t>>& starts,
                       const std::optional<py::array_t<int64_t>>& order,
                       std::shared_ptr<GroupedRows> groups, std::shared_ptr<GroupSums> sums,
                       int64_t first_group) {
  const RowArrays a(X, y, offset, sample_weight);
  owners_ = a.owners();
  if (order) owners_.push_back(*order);
  const bool stacked = !starts;
  const size_t dims = stacked ? 3 : 2;
  if (a.X.shape.size() != dims || a.y.shape.size() != dims)
    throw py::value_error(
        "Problems needs X (count,n,d) or, with starts, X (rows,d); y with as many dimensions.");
  dispatch(a.X.single, [&](auto zero) {
    using T = decltype(zero);
    const auto step = [&](const Array& array) { return stacked && array ? array.strides[0] : 0; };
    ManyRows<T> rows{};
    rows.all = problem_of<T>(a, fit_intercept, reduction_of(reduction));
    rows.X_step = step(a.X);
    rows.y_step = step(a.y);
    rows.offset_step = step(a.offset);
    rows.weight_step = step(a.sample_weight);
    rows.count = stacked ? a.X.shape[0] : starts->size() - 1;
    if (starts) rows.starts.assign(starts->data(), starts->data() + starts->size());
    if (order) rows.order = order->data();
    rows.groups = std::move(groups);
    rows.sums = std::move(sums);
    rows.first_group = first_group;
    rows_ = std::move(rows);
  });
}

void register_problem(py::module_& m) {
  py::class_<PyProblem>(m, "Problem")
      .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&,
                    bool, const py::object&>(),
           py::arg("X"), py::arg("y"), py::arg("offset"), py::arg("sample_weight"),
           py::arg("fit_intercept"), py::arg("reduction"))
      .def("scaled", &PyProblem::scaled, py::arg("scaling"))
      .def("largest_row", &PyProblem::largest_row)
      .def("count_nonzero", &PyProblem::count_nonzero);

  py::class_<PyProblems>(m, "Problems")
      .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&,
                    bool, const py::object&, const std::optional<py::array_t<int64_t>>&,
                    const std::optional<py::array_t<int64_t>>&, std::shared_ptr<GroupedRows>,
                    std::shared_ptr<GroupSums>, int64_t>(),
           py::arg("X"), py::arg("y"), py::arg("offset"), py::arg("sample_weight"),
           py::arg("fit_intercept"), py::arg("reduction"), py::arg("starts"), py::arg("order"),
           py::arg("groups") = py::none(), py::arg("sums") = py::none(),
           py::arg("first_group") = 0);
}

}  // namespace gdcore
