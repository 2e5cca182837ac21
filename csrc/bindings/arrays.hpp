// NumPy arrays in and out. Dtypes, shapes and strides are checked here and nowhere below.
// A valid call allocates only its result, and error messages are formed where they are thrown:
// on small arrays such overhead is most of a call's time.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "contract.hpp"
#include "dims.hpp"
#include "fp_env.hpp"

namespace py = pybind11;

namespace gdcore {

// An absent array: false as a condition. py::array() makes an array of no elements.
inline py::array no_array() { return py::reinterpret_steal<py::array>(py::handle()); }

struct Named {
  const char* name;
  py::handle value;
  bool optional = false;  // may be None: an absent array
};

// Converts `count` operands to arrays of one dtype, float32 (returns true) or float64, that are
// `usable`. Usable operands are not copied. Python numbers take the dtype of the other operands.
// TypeError for an operand without a floating value.
bool as_floats(const Named* named, size_t count, py::array* arrays);

template <size_t N>
struct Operands {
  std::array<py::array, N> arrays;
  bool single;  // float32

  bool present(size_t i) const { return static_cast<bool>(arrays[i]); }
};

template <size_t N, size_t... I>
std::array<py::array, N> no_arrays(std::index_sequence<I...>) {
  return {((void)I, no_array())...};
}
template <size_t N>
Operands<N> as_floats(const Named (&named)[N]) {
  Operands<N> in{no_arrays<N>(std::make_index_sequence<N>()), false};
  in.single = as_floats(named, N, in.arrays.data());
  return in;
}

Dims shape_of(const py::array& a);
std::string text(const Dims& shape);  // "(2, 3)"

// Strides in elements.
template <class T>
Dims strides_of(const py::array& a) {
  Dims strides;
  for (py::ssize_t i = 0; i < a.ndim(); ++i)
    strides.push_back(a.strides()[i] / static_cast<py::ssize_t>(sizeof(T)));
  return strides;
}

template <class T>
T* data_of(const py::array& a) {
  return static_cast<T*>(const_cast<void*>(a.data()));
}

// Makes `batch` the shape that both broadcast to, by NumPy's rule; false if they do not.
bool broadcast(Dims& batch, const Dims& shape);
constexpr const char* broadcast_rule =
    " the batch dimensions do not broadcast: counted from the right, each must be 1 or equal to "
    "the others.";

// Strides of an operand's leading dimensions (all but the last `core`) in the broadcast batch.
Dims batch_strides(const Dims& shape, const Dims& strides, size_t core, const Dims& batch);

int64_t product(const Dims& shape);

py::array empty(const Dims& shape, bool single);  // C-contiguous, not filled
py::object as_result(const py::array& a);         // 0-d arrays become NumPy scalars
py::object scalar(double value, bool single);

// Where a result is written: `out` itself, or an array that is copied into it after all inputs have
// been read.
class Destination {
 public:
  // ValueError or TypeError unless `out` is None or a writable array of this shape and dtype.
  template <size_t N>
  Destination(const char* function, py::handle out, const Dims& shape, const Operands<N>& inputs,
              bool need_contiguous)
      : Destination(function, out, shape, inputs.single, inputs.arrays.data(), N, need_contiguous) {
  }
  py::array& array() { return array_; }
  py::object finish();  // after the computation; 0-d results become NumPy scalars

 private:
  Destination(const char* function, py::handle out, const Dims& shape, bool single,
              const py::array* inputs, size_t count, bool need_contiguous);
  py::array array_ = no_array(), out_ = no_array();
  bool copy_back_ = false;
};

Reduction reduction_of(py::handle name, bool none_allowed = false);
bool is_mean(Reduction reduction);

// Whether the kernels can read the array: float32 or float64, native byte order, aligned, strides
// of whole elements.
bool usable(const py::array& a, bool single);

// Whether the arrays may share memory.
bool overlap(const py::array& a, const py::array& b);

// All pairs of arrays that may share memory, with the smaller index first.
std::vector<std::pair<size_t, size_t>> overlapping(const std::vector<py::array>& arrays);

// Runs f without the GIL. The caller holds an FpEnv, which also covers conversions.
template <class F>
auto compute(F&& f) {
  py::gil_scoped_release release;
  return f();
}

// The same for about `work` fma or elements. Releasing the GIL costs more than a small call takes.
template <class F>
auto compute(double work, F&& f) {
  constexpr double worth_release = 1 << 13;
  return work < worth_release ? f() : compute(f);
}

// Calls f(float{}) if single, else f(double{}).
template <class F>
auto dispatch(bool single, F&& f) {
  return single ? f(float{}) : f(double{});
}

}  // namespace gdcore
