// Second moments of rows, as a value.
#pragma once

#include <optional>

#include "bindings/arrays.hpp"
#include "fit/problem.hpp"

namespace gdcore {

class PyMoments {
 public:
  PyMoments(int64_t d, int64_t t) { moments_.reset(d, t); }
  PyMoments(int64_t d, int64_t t, const py::handle& hi, const py::handle& lo);
  explicit PyMoments(const Moments& moments) : moments_(moments) {}

  const Moments& get() const { return moments_; }

 private:
  Moments moments_;
};

// ValueError unless the moments have the problem's features and targets.
template <class T>
void check_columns(const Moments& moments, const Problem<T>& problem) {
  if (moments.d != problem.d || moments.t != problem.t)
    throw py::value_error("the moments do not belong to this problem: its columns differ.");
}

template <class T>
std::optional<Quadratic<T>> quadratic_of(const PyMoments* moments, const Problem<T>& problem) {
  if (!moments) return std::nullopt;
  check_columns(moments->get(), problem);
  return Quadratic<T>(moments->get(), problem.fit_intercept, problem.scaling);
}

template <class T>
const T* address(const std::optional<T>& value) {
  return value ? &*value : nullptr;
}

}  // namespace gdcore
