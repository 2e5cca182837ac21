#include "bindings/arrays.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "bindings/register.hpp"

namespace gdcore {
namespace {

bool is_number(py::handle value) {
  return PyFloat_CheckExact(value.ptr()) || PyLong_CheckExact(value.ptr()) ||
         PyBool_Check(value.ptr());
}

// TypeError with the sentence that gdcore.advice has for it.
template <class... Arguments>
[[noreturn]] void refuse(const char* function, const Arguments&... arguments) {
  const auto advice = py::module_::import("gdcore.advice").attr(function);
  throw py::type_error(advice(arguments...).template cast<std::string>());
}

py::array as_array(const char* name, py::handle value) {
  if (py::isinstance<py::array>(value)) {
    const bool plain = Py_TYPE(value.ptr()) == py::detail::npy_api::get().PyArray_Type_;
    if (!plain && py::hasattr(value, "mask")) refuse("no_array", name, value, "");
    return py::reinterpret_borrow<py::array>(value);
  }
  const auto& api = py::detail::npy_api::get();
  PyObject* const a = api.PyArray_FromAny_(value.ptr(), nullptr, 0, 0,
                                           py::detail::npy_api::NPY_ARRAY_ENSUREARRAY_, nullptr);
  if (a) return py::reinterpret_steal<py::array>(a);
  py::error_already_set error;
  if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw error;
  refuse("no_array", name, value, py::str(error.value()));
}

// Bytes of the floating type, 4 or 8, that holds the values of `a`, which was made from `value`.
// TypeError if neither does.
int float_size(const char* name, py::handle value, const py::array& a) {
  const py::dtype dtype = a.dtype();
  switch (dtype.kind()) {
    case 'f':
      if (dtype.itemsize() <= 4) return 4;
      if (dtype.itemsize() == 8) return 8;
      break;
    case 'i':
    case 'u':
    case 'b': return 8;
    default: break;
  }
  refuse("no_floats", name, value, a);
}

// Smallest and one-past-largest byte address an array touches.
std::pair<const char*, const char*> extent(const py::array& a) {
  const char* low = static_cast<const char*>(a.data());
  const char* high = low + a.itemsize();
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    if (a.shape(i) == 0) return {low, low};
    const py::ssize_t reach = (a.shape(i) - 1) * a.strides(i);
    (reach < 0 ? low : high) += reach;
  }
  return {low, high};
}

py::dtype float_dtype(bool single) {
  return single ? py::dtype::of<float>() : py::dtype::of<double>();
}

// A copy of that dtype. Repeated elements of a broadcast array are copied once.
py::array converted(const py::array& a, const py::dtype& dtype) {
  bool repeats = false;
  py::tuple once(a.ndim());
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    const bool repeated = a.strides(i) == 0 && a.shape(i) > 1;
    once[static_cast<size_t>(i)] = py::slice(0, repeated ? 1 : a.shape(i), 1);
    repeats = repeats || repeated;
  }
  if (!repeats) return a.attr("astype")(dtype);
  const auto broadcast_to = py::module_::import("numpy").attr("broadcast_to");
  return broadcast_to(a[once].attr("astype")(dtype), a.attr("shape"));
}

template <class T>
py::object scalar_of(T value) {
  const py::dtype dtype = py::dtype::of<T>();
  PyObject* const x = py::detail::npy_api::get().PyArray_Scalar_(&value, dtype.ptr(), nullptr);
  if (!x) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(x);
}

}  // namespace

bool usable(const py::array& a, bool single) {
  const py::dtype dtype = a.dtype();
  const py::ssize_t size = single ? 4 : 8;
  if (dtype.kind() != 'f' || dtype.itemsize() != size || dtype.byteorder() == '>' ||
      dtype.byteorder() == '!')
    return false;
  if (!(a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) return false;
  for (py::ssize_t i = 0; i < a.ndim(); ++i)
    if (a.strides(i) % size != 0) return false;
  return true;
}

bool overlap(const py::array& a, const py::array& b) {
  const auto x = extent(a), y = extent(b);
  return x.first < y.second && y.first < x.second;
}

bool as_floats(const Named* named, size_t count, py::array* arrays) {
  int size = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto& [name, value, optional] = named[i];
    if (value.is_none()) {
      if (!optional)
        throw py::type_error(std::string(name) + " is None; pass an array of numbers.");
      continue;
    }
    arrays[i] = as_array(name, value);
    const int own = float_size(name, value, arrays[i]);
    if (!is_number(value)) size = std::max(size, own);
  }
  const bool single = size == 4;
  for (size_t i = 0; i < count; ++i)
    if (arrays[i] && !usable(arrays[i], single))
      arrays[i] = converted(arrays[i], float_dtype(single));
  return single;
}

std::vector<std::pair<size_t, size_t>> overlapping(const std::vector<py::array>& arrays) {
  struct Extent {
    const char *begin, *end;
    size_t index;
  };
  std::vector<Extent> extents, open;
  for (size_t i = 0; i < arrays.size(); ++i) {
    const auto [begin, end] = extent(arrays[i]);
    if (begin < end) extents.push_back({begin, end, i});
  }
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  std::vector<std::pair<size_t, size_t>> pairs;
  for (const Extent& next : extents) {
    open.erase(std::remove_if(open.begin(), open.end(),
                              [&](const Extent& e) { return e.end <= next.begin; }),
               open.end());
    for (const Extent& e : open) pairs.push_back(std::minmax(e.index, next.index));
    open.push_back(next);
  }
  return pairs;
}

Dims shape_of(const py::array& a) { return Dims(a.shape(), a.shape() + a.ndim()); }

std::string text(const Dims& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + (shape.size() == 1 ? ",)" : ")");
}

bool broadcast(Dims& batch, const Dims& shape) {
  const size_t missing = shape.size() - std::min(shape.size(), batch.size());
  Dims out(shape.begin(), shape.begin() + missing);
  for (int64_t size : batch) out.push_back(size);
  for (size_t i = 0; i < shape.size(); ++i) {
    int64_t& size = out[out.size() - shape.size() + i];
    if (size == 1) size = shape[i];
    if (shape[i] != size && shape[i] != 1) return false;
  }
  batch = out;
  return true;
}

Dims batch_strides(const Dims& shape, const Dims& strides, size_t core, const Dims& batch) {
  const size_t own = shape.size() - std::min(core, shape.size());
  Dims out;
  for (size_t i = own; i < batch.size(); ++i) out.push_back(0);
  for (size_t i = 0; i < own; ++i) out.push_back(shape[i] != 1 ? strides[i] : 0);
  return out;
}

int64_t product(const Dims& shape) {
  int64_t size = 1;
  for (int64_t n : shape)
    if (__builtin_mul_overflow(size, n, &size))
      throw py::value_error("the result of shape " + text(shape) + " is too large.");
  return size;
}

py::array empty(const Dims& shape, bool single) {
  product(shape);
  const auto& api = py::detail::npy_api::get();
  PyObject* const a = api.PyArray_NewFromDescr_(
      api.PyArray_Type_, float_dtype(single).release().ptr(), static_cast<int>(shape.size()),
      shape.begin(), nullptr, nullptr, 0, nullptr);
  if (!a) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(a);
}

py::object as_result(const py::array& a) {
  if (a.ndim() > 0) return a;
  return a.itemsize() == 4 ? scalar_of(*data_of<float>(a)) : scalar_of(*data_of<double>(a));
}

py::object scalar(double value, bool single) {
  return single ? scalar_of(static_cast<float>(value)) : scalar_of(value);
}

Destination::Destination(const char* function, py::handle out, const Dims& shape, bool single,
                         const py::array* inputs, size_t count, bool need_contiguous) {
  if (out.is_none()) {
    array_ = empty(shape, single);
    return;
  }
  const py::dtype dtype = float_dtype(single);
  const std::string name = std::string(function) + ": out";
  if (!py::isinstance<py::array>(out))
    throw py::type_error(name + " must be a NumPy array, or None.");
  out_ = py::reinterpret_borrow<py::array>(out);
  if (!out_.dtype().equal(dtype))
    throw py::type_error(name + " has dtype " + py::str(out_.dtype()).cast<std::string>() +
                         ", but the result is " + py::str(dtype).cast<std::string>() +
                         "; give an array of that dtype.");
  if (shape_of(out_) != shape)
    throw py::value_error(name + " has shape " + text(shape_of(out_)) +
                          ", but the result has shape " + text(shape) + ".");
  if (!out_.writeable()) throw py::value_error(name + " is read-only; give a writable array.");
  copy_back_ = !usable(out_, single) || (need_contiguous && !(out_.flags() & py::array::c_style));
  for (size_t i = 0; i < count; ++i)
    copy_back_ = copy_back_ || (inputs[i] && overlap(out_, inputs[i]));
  array_ = copy_back_ ? empty(shape, single) : out_;
}

py::object Destination::finish() {
  if (copy_back_) out_[py::ellipsis()] = array_;
  return out_ ? py::object(out_) : as_result(array_);
}

Reduction reduction_of(py::handle name, bool none_allowed) {
  const auto is = [&](const char* choice) {
    return PyUnicode_Check(name.ptr()) && PyUnicode_CompareWithASCIIString(name.ptr(), choice) == 0;
  };
  if (is("mean")) return Reduction::mean;
  if (is("sum")) return Reduction::sum;
  if (is("half_mean")) return Reduction::half_mean;
  if (is("half_sum")) return Reduction::half_sum;
  throw py::value_error("reduction is " + py::repr(name).cast<std::string>() +
                        "; choose 'mean', 'sum', 'half_mean'" +
                        (none_allowed ? ", 'half_sum' or 'none'." : " or 'half_sum'."));
}

bool is_mean(Reduction reduction) {
  return reduction == Reduction::mean || reduction == Reduction::half_mean;
}

namespace {

// Converts operands, each (name, value) or (name, value, optional), to arrays of one floating
// dtype. None stays None.
py::list prepare(const py::args& pairs) {
  FpEnv env;
  std::vector<Named> named;
  std::vector<std::string> names;
  names.reserve(pairs.size());
  for (const auto& pair : pairs) names.push_back(pair.cast<py::tuple>()[0].cast<std::string>());
  for (size_t i = 0; i < names.size(); ++i) {
    const auto pair = pairs[i].cast<py::tuple>();
    named.push_back({names[i].c_str(), pair[1], pair.size() > 2 && pair[2].cast<bool>()});
  }
  std::vector<py::array> arrays(named.size(), no_array());
  as_floats(named.data(), named.size(), arrays.data());
  py::list out;
  for (const py::array& a : arrays) out.append(a ? py::object(a) : py::none());
  return out;
}

}  // namespace

void register_arrays(py::module_& m) {
  m.def("prepare", &prepare);
  m.def("overlapping", &overlapping, py::arg("arrays"));
}

}  // namespace gdcore
