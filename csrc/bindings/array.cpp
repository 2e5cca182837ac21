#include "bindings/array.hpp"

namespace gdcore {
namespace {

// Strides in bytes, or in the unit of data's elements.
template <class Size>
Extent reach(const void* data, size_t itemsize, size_t ndim, Size&& size_and_stride) {
  const char* low = static_cast<const char*>(data);
  const char* high = low + itemsize;
  for (size_t i = 0; i < ndim; ++i) {
    const auto [size, stride] = size_and_stride(i);
    if (size == 0) return {low, low};
    const int64_t bytes = (size - 1) * stride;
    (bytes < 0 ? low : high) += bytes;
  }
  return {low, high};
}

}  // namespace

std::string text(const Dims& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + (shape.size() == 1 ? ",)" : ")");
}

int64_t product(const Dims& shape) {
  int64_t size = 1;
  for (int64_t n : shape)
    if (__builtin_mul_overflow(size, n, &size))
      throw py::value_error("the result of shape " + text(shape) + " is too large.");
  return size;
}

void refuse_repeats(const std::string& name, const Dims& shape, const Dims& strides) {
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] > 1 && strides[i] == 0)
      throw py::value_error(name + " of shape " + text(shape) +
                            " is a broadcast view, whose elements share memory; copy it first.");
  }
}

Dims contiguous_strides(const Dims& shape) {
  Dims strides = shape;
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0; step *= shape[i]) strides[i] = step;
  return strides;
}

bool is_contiguous(const Array& a) {
  int64_t step = 1;
  for (size_t i = a.shape.size(); i-- > 0; step *= a.shape[i]) {
    if (a.shape[i] == 0) return true;
    if (a.shape[i] != 1 && a.strides[i] != step) return false;
  }
  return true;
}

Extent extent(const Array& a) {
  const auto bytes = static_cast<int64_t>(a.itemsize());
  return reach(a.data, a.itemsize(), a.shape.size(),
               [&](size_t i) { return std::pair(a.shape[i], a.strides[i] * bytes); });
}

Extent extent(const py::array& a) {
  return reach(a.data(), static_cast<size_t>(a.itemsize()), static_cast<size_t>(a.ndim()),
               [&](size_t i) { return std::pair<int64_t, int64_t>(a.shape()[i], a.strides()[i]); });
}

py::dtype float_dtype(bool single) {
  return single ? py::dtype::of<float>() : py::dtype::of<double>();
}

bool usable(const py::array& a, bool single) {
  const py::dtype dtype = a.dtype();
  const py::ssize_t size = single ? 4 : 8;
  if (dtype.kind() != 'f' || dtype.itemsize() != size || dtype.byteorder() == '>' ||
      dtype.byteorder() == '!')
    return false;
  if (!(a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) return false;
  const py::ssize_t* const strides = a.strides();
  for (py::ssize_t i = 0, ndim = a.ndim(); i < ndim; ++i)
    if ((strides[i] & (size - 1)) != 0) return false;
  return true;
}

void set_numpy(Array& array, py::array a, bool single) {
  const int shift = single ? 2 : 3;  // log2 of the itemsize: a division would take longer
  const py::ssize_t *const shape = a.shape(), *const strides = a.strides();
  array.shape.clear();
  array.strides.clear();
  for (py::ssize_t i = 0, ndim = a.ndim(); i < ndim; ++i) {
    array.shape.push_back(shape[i]);
    array.strides.push_back(strides[i] >> shift);
  }
  array.data = const_cast<void*>(a.data());
  array.single = single;
  array.where = {};
  array.owner = std::move(a);
}

py::array numpy_view(const Array& a) {
  std::vector<py::ssize_t> shape(a.shape.begin(), a.shape.end()), strides;
  for (int64_t stride : a.strides)
    strides.push_back(stride * static_cast<py::ssize_t>(a.itemsize()));
  py::array view(float_dtype(a.single), std::move(shape), std::move(strides), a.data, a.owner);
  if (!a.is_writable) view.attr("flags").attr("writeable") = false;
  return view;
}

py::array empty_numpy(const Dims& shape, bool single) {
  product(shape);
  Py_intptr_t sizes[Dims::most];
  std::copy(shape.begin(), shape.end(), sizes);
  const auto& api = py::detail::npy_api::get();
  PyObject* const a = api.PyArray_NewFromDescr_(
      api.PyArray_Type_, float_dtype(single).release().ptr(), static_cast<int>(shape.size()), sizes,
      nullptr, nullptr, 0, nullptr);
  if (!a) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(a);
}

}  // namespace gdcore
