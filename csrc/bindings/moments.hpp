// Second moments of rows, as a value.
#pragma once

#include <optional>
#include <utility>

#include "bindings/arrays.hpp"
#include "fit/problem.hpp"

namespace gdcore {

class PyMoments {
 public:
  PyMoments(int64_t d, int64_t t) { open_.reset(d, t); }
  // Levels: (hi, lo) of each, the lowest first.
  PyMoments(int64_t d, int64_t t, int64_t segments, const py::sequence& levels);
  explicit PyMoments(Moments moments) : open_(std::move(moments)) { close(); }

  const Moments& get() const { return closed_ ? *closed_ : open_; }  // the sums of all segments
  const Moments& open() const { return open_; }                      // to which more may be added
  py::tuple levels() const;

 private:
  void close();

  Moments open_;
  std::optional<Moments> closed_;  // none if open_ has one level, whose sums are the total
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
