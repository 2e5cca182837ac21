// An array that kernels can read or write: where its numbers are, and who keeps them there.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "cuda/driver.hpp"
#include "cuda/operations.hpp"
#include "device.hpp"
#include "dims.hpp"

namespace py = pybind11;

namespace gdcore {

// Whose memory: the host's, or a CUDA device's, where work is queued on a stream.
struct Where {
  bool on_device = false;
  cuda::Place place{};
};

struct Array {
  void* data = nullptr;
  Dims shape, strides;  // strides in elements
  bool single = false;  // float32; else float64
  bool is_writable = true;
  Where where;
  py::object owner;  // keeps the memory alive; of a NumPy operand, the NumPy array itself

  Array() {}  // = default would fill the sizes and strides with zeros wherever it is written ()
  // False for an operand that is not there.
  explicit operator bool() const { return static_cast<bool>(owner); }
  size_t itemsize() const { return single ? sizeof(float) : sizeof(double); }
};

template <class T>
T* data_of(const Array& a) {
  return static_cast<T*>(a.data);
}

template <class T>
const Device<T>& device_of(const Where& where) {
  return where.on_device ? cuda_device<T>() : host_device<T>();
}

std::string text(const Dims& shape);  // "(2, 3)"
int64_t product(const Dims& shape);   // ValueError if it is too large

// ValueError for an array to be written in which several elements are one number.
void refuse_repeats(const std::string& name, const Dims& shape, const Dims& strides);

Dims contiguous_strides(const Dims& shape);
bool is_contiguous(const Array& a);

// The bytes [first, second) that an array touches.
using Extent = std::pair<const char*, const char*>;
Extent extent(const Array& a);
Extent extent(const py::array& a);  // of any dtype

// Whether two arrays may share memory.
inline bool overlap(const Extent& a, const Extent& b) {
  return a.first < b.second && b.first < a.second;
}

py::dtype float_dtype(bool single);

// Whether the kernels can read the array: float32 or float64, native byte order, aligned, strides
// of whole elements.
bool usable(const py::array& a, bool single);

// A usable NumPy array of that dtype, not copied.
void set_numpy(Array& array, py::array a, bool single);

// The same memory, in the host's, as a NumPy array.
py::array numpy_view(const Array& a);

py::array empty_numpy(const Dims& shape, bool single);  // C-contiguous, not filled

}  // namespace gdcore
