// A problem, or many, and the arrays that they look at.
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "bindings/arrays.hpp"
#include "fit/many.hpp"

namespace gdcore {

class PyProblem {
 public:
  // X (n,d), y (n,t), offset (n,t), sample_weight (n): one dtype, see `prepare`.
  // None stands for no offset, no sample_weight.
  PyProblem(const py::object& X, const py::object& y, const py::object& offset,
            const py::object& sample_weight, bool fit_intercept, const py::object& reduction);

  bool single() const { return std::holds_alternative<Problem<float>>(problem_); }
  template <class T>
  const Problem<T>& as() const {
    return std::get<Problem<T>>(problem_);
  }
  // The same rows, with columns standardised as they are read.
  PyProblem scaled(const py::handle& scaling) const;
  double largest_row() const;
  // For each feature and target, the rows of weight above 0 that are not 0 there; on a device
  // alone.
  py::array count_nonzero() const;

 private:
  std::vector<py::object> owners_;  // keep the memory alive
  std::shared_ptr<std::vector<double>> scaling_;
  std::variant<Problem<float>, Problem<double>> problem_;
};

class PyProblems {
 public:
  // Either X (count,n,d), y (count,n,t), offset (count,n,t), sample_weight (count,n); or X
  // (rows,d), y (rows,t), offset (rows,t), sample_weight (rows) with starts (count+1) and perhaps
  // order (rows), or groups from `first_group` on whose rows are anywhere, and perhaps their sums.
  PyProblems(const py::object& X, const py::object& y, const py::object& offset,
             const py::object& sample_weight, bool fit_intercept, const py::object& reduction,
             const std::optional<py::array_t<int64_t>>& starts,
             const std::optional<py::array_t<int64_t>>& order, std::shared_ptr<GroupedRows> groups,
             std::shared_ptr<GroupSums> sums, int64_t first_group);

  bool single() const { return std::holds_alternative<ManyRows<float>>(rows_); }
  template <class T>
  const ManyRows<T>& as() const {
    return std::get<ManyRows<T>>(rows_);
  }

 private:
  std::vector<py::object> owners_;  // keep the memory alive
  std::variant<ManyRows<float>, ManyRows<double>> rows_;
};

}  // namespace gdcore
