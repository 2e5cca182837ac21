// Views of arrays on a device: shapes, strides and addresses by NumPy's rules, without NumPy, whose
// arrays of a device's addresses nobody may print.
#pragma once

#include "bindings/array.hpp"

namespace gdcore {

// By integers, slices, None and ..., or a tuple of those; IndexError for all else.
Array view_at(const Array& a, const py::object& index);
// ValueError if the array does not broadcast to the shape.
Array view_of_shape(const Array& a, const Dims& shape);
Array transposed(const Array& a);

}  // namespace gdcore
