// Results, in the library and the memory of the caller's arrays.
#pragma once

#include "bindings/arrays.hpp"

namespace gdcore {

// C-contiguous, not filled.
Array empty(const Dims& shape, bool single, const Home& home);
// The object that the caller gets once the numbers are written, or queued to be written. 0-d NumPy
// arrays become scalars.
py::object as_result(const Array& a, const Home& home);
py::object scalar(double value, bool single);  // of NumPy

// Where a result is written: `out` itself, or an array that is copied into it after all inputs have
// been read.
class Destination {
 public:
  // ValueError or TypeError unless `out` is None or a writable array of this shape and dtype.
  template <size_t N>
  Destination(const char* function, py::handle out, const Dims& shape, const Operands<N>& inputs,
              bool need_contiguous)
      : Destination(function, out, shape, inputs.single, inputs.home, inputs.arrays.data(), N,
                    need_contiguous) {}
  const Array& array() const { return array_; }
  // A C-contiguous array in its place, for operations that cannot write to `array`.
  const Array& detour();
  py::object finish();  // after the computation; 0-d results become NumPy scalars

 private:
  Destination(const char* function, py::handle out, const Dims& shape, bool single,
              const Home& home, const Array* inputs, size_t count, bool need_contiguous);
  void make_copy(const Dims& shape);
  const Home& home_;
  bool single_;
  Array array_;
  py::object given_;  // `out`, or null
  // Where the result is copied in the end: in the host's memory, or on a device.
  py::object into_;
  Array into_on_device_;
  bool copy_back_ = false;
};

}  // namespace gdcore
