// Vectors of numbers from Python and back.
#pragma once

#include <vector>

#include "bindings/arrays.hpp"

namespace gdcore {

// Contiguous, converted to the dtype, and aligned.
constexpr int aligned_dense =
    py::array::c_style | py::array::forcecast | py::detail::npy_api::NPY_ARRAY_ALIGNED_;

template <class T>
py::array_t<T> copy_of(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

template <class T>
std::vector<T> vector_of(const py::handle& value) {
  const auto a = py::array_t<T, aligned_dense>::ensure(value);
  if (!a) {
    PyErr_Clear();
    throw py::value_error("the fit's state holds an entry that is not an array of numbers.");
  }
  return std::vector<T>(a.data(), a.data() + a.size());
}

}  // namespace gdcore
