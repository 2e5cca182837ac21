// NumPy arrays in and out: dtypes, shapes and strides are checked here, once, and nowhere below.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <utility>
#include <vector>

#include "contract.hpp"
#include "fp_env.hpp"

namespace py = pybind11;

namespace gdcore {

using Shape = std::vector<int64_t>;

struct Named {
  const char* name;
  py::object value;
  bool optional = false;  // may be None, and stays empty then
};

// The operands as arrays of one dtype, float32 or float64, aligned, native, strides whole elements.
// An operand that is so already is not copied. Python numbers take the dtype of the rest. TypeError
// for what has no floating value.
struct Operands {
  bool single = false;  // float32
  std::vector<py::array> arrays;
  std::vector<bool> present;
};
Operands as_floats(const std::vector<Named>& named);

Shape shape_of(const py::array& a);
std::string text(const Shape& shape);  // "(2, 3)"

// Strides in elements.
template <class T>
Shape strides_of(const py::array& a) {
  Shape strides(static_cast<size_t>(a.ndim()));
  for (py::ssize_t i = 0; i < a.ndim(); ++i)
    strides[static_cast<size_t>(i)] = a.strides(i) / static_cast<py::ssize_t>(sizeof(T));
  return strides;
}

// NumPy's broadcast of batch shapes; ValueError begins with `call`, which says what was passed.
Shape broadcast(const std::string& call, const std::vector<Shape>& shapes);

// Strides of an operand's leading dimensions (all but the last `core`), as seen by the broadcast
// batch.
Shape batch_strides(const Shape& shape, const Shape& strides, size_t core, const Shape& batch);

// Offset of flat batch index `index`.
int64_t batch_offset(const Shape& batch, const Shape& strides, int64_t index);
int64_t product(const Shape& shape);

// Where a result goes: `out` itself, or an array to be copied into it once everything has been
// read.
class Destination {
 public:
  // ValueError or TypeError unless `out` is None or a writable array of this shape and dtype.
  Destination(const char* function, const py::object& out, const Shape& shape, bool single,
              const std::vector<py::array>& inputs, bool need_contiguous);
  py::array& array() { return array_; }
  py::object finish();  // after the computation; 0-d results become NumPy scalars

 private:
  py::array array_, out_;
  bool copy_back_ = false, given_ = false;
};

py::object scalar(double value, bool single);
Reduction reduction_of(const py::object& name, bool none_allowed = false);

// Whether the kernels can read it as it is: float32 or float64, native, aligned, strides whole
// elements.
bool usable(const py::array& a, bool single);

// Whether the two may share memory.
bool overlap(const py::array& a, const py::array& b);

// Runs f without the GIL. Whoever calls it holds an FpEnv, conversions being part of the contract
// too.
template <class F>
auto compute(F&& f) {
  py::gil_scoped_release release;
  return f();
}

// Calls f with a float or a double to say which.
template <class F>
auto dispatch(bool single, F&& f) {
  return single ? f(float{}) : f(double{});
}

}  // namespace gdcore
