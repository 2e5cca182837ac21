#include "bindings/arrays.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "bindings/device_array.hpp"
#include "bindings/register.hpp"
#include "bindings/results.hpp"

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

// Returns the NumPy array; TypeError for a masked one. Instances of subclasses come here too.
py::array checked_array(const char* name, py::handle value) {
  const bool plain = Py_TYPE(value.ptr()) == py::detail::npy_api::get().PyArray_Type_;
  if (!plain && py::hasattr(value, "mask")) refuse("no_array", name, value, "");
  return py::reinterpret_borrow<py::array>(value);
}

py::array converted_to_array(const char* name, py::handle value) {
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

// Python's numbers, and lists of them: NumPy's to convert.
bool is_plain(py::handle value) {
  return is_number(value) || PyList_CheckExact(value.ptr()) || PyTuple_CheckExact(value.ptr());
}

// Reads a NumPy array that needs no conversion, without making objects of its parts: most of a
// small call's time would go there. False for all other arrays.
bool read_as_it_is(py::handle value, Array& array) {
  using Api = py::detail::npy_api;
  const auto* const a = py::detail::array_proxy(value.ptr());
  const auto* const dtype = py::detail::array_descriptor_proxy(a->descr);
  const bool single = dtype->type_num == Api::NPY_FLOAT_;
  if (!(single || dtype->type_num == Api::NPY_DOUBLE_) || dtype->byteorder == '>' ||
      dtype->byteorder == '!' || !(a->flags & Api::NPY_ARRAY_ALIGNED_))
    return false;
  const int shift = single ? 2 : 3;  // log2 of the itemsize
  for (int i = 0; i < a->nd; ++i) {
    if ((a->strides[i] & ((1 << shift) - 1)) != 0) return false;
    array.shape.push_back(a->dimensions[i]);
    array.strides.push_back(a->strides[i] >> shift);
  }
  array.data = a->data;
  array.single = single;
  array.owner = py::reinterpret_borrow<py::object>(value);
  return true;
}

// Reads an operand as far as it can be before the dtype of all is known: of NumPy arrays the owner
// alone. Returns the size of its numbers, 4 or 8.
int read(const Named& named, Array& array, Home& home) {
  const auto& [name, value, optional] = named;
  if (Py_TYPE(value.ptr()) == py::detail::npy_api::get().PyArray_Type_) {
    if (read_as_it_is(value, array)) return array.single ? 4 : 8;
    array = {};
  }
  const bool is_numpy = py::isinstance<py::array>(value);
  if (!is_numpy && !is_plain(value)) {
    if (read_foreign(name, value, array, home)) return array.single ? 4 : 8;
    array = {};
  }
  py::array a = is_numpy ? checked_array(name, value) : converted_to_array(name, value);
  const int size = float_size(name, value, a);
  array.owner = std::move(a);
  return size;
}

// TypeError for operands of two dtypes on a device, where none is converted.
void check_device_dtypes(const Named* named, size_t count, const Array* arrays) {
  const char* name = nullptr;
  bool single = false;
  for (size_t i = 0; i < count; ++i) {
    if (!arrays[i].where.on_device) continue;
    if (name && arrays[i].single != single)
      throw py::type_error(std::string(name) + " is " + (single ? "float32" : "float64") + " and " +
                           named[i].name + " " + (single ? "float64" : "float32") +
                           ", on a CUDA device; convert one of them with its own library.");
    name = named[i].name;
    single = arrays[i].single;
  }
}

// Makes the operand one of the common dtype and place.
void settle(const Named& named, Array& array, bool single, const Home& home) {
  const auto& [name, value, optional] = named;
  if (array.where.on_device) return;
  if (home.on_device && !is_number(value))
    throw py::type_error(std::string(home.on_device) + " is on CUDA device " +
                         std::to_string(home.where.place.ordinal) + " and " + name +
                         " is in the host's memory; copy one of them so that both are in one "
                         "place.");
  if (array.data && array.single == single && !home.on_device) return;  // read as it is
  if (!py::isinstance<py::array>(array.owner)) {
    if (array.single == single) return;
    array.owner = numpy_view(array);
  }
  auto a = py::reinterpret_borrow<py::array>(array.owner);
  set_numpy(array, usable(a, single) ? std::move(a) : converted(a, float_dtype(single)), single);
  if (!home.on_device) return;
  const double number = single ? *data_of<float>(array) : *data_of<double>(array);
  array = number_on_device(number, single, home.where.place);
}

}  // namespace

bool as_floats(const Named* named, size_t count, Array* arrays, Home& home) {
  int size = 0;
  for (size_t i = 0; i < count; ++i) {
    if (named[i].value.is_none()) {
      if (!named[i].optional)
        throw py::type_error(std::string(named[i].name) + " is None; pass an array of numbers.");
      continue;
    }
    const int own = read(named[i], arrays[i], home);
    if (!is_number(named[i].value)) size = std::max(size, own);
  }
  const bool single = size == 4;
  if (home.on_device) check_device_dtypes(named, count, arrays);
  for (size_t i = 0; i < count; ++i)
    if (arrays[i]) settle(named[i], arrays[i], single, home);
  return single;
}

namespace {

bool share_memory(const py::object& a, const py::object& b) {
  // NumPy compares addresses alone, so a view of a device's addresses serves; nobody reads it.
  const auto shadow = [](const py::object& array) -> py::object {
    if (py::isinstance<py::array>(array)) return array;
    return numpy_view(array.cast<const DeviceArray&>().array);
  };
  return py::module_::import("numpy").attr("shares_memory")(shadow(a), shadow(b)).cast<bool>();
}

// All pairs of NumPy arrays or DeviceArrays that share memory, with the smaller index first.
std::vector<std::pair<size_t, size_t>> overlapping(const std::vector<py::object>& arrays) {
  struct Span {
    const char *begin, *end;
    size_t index;
  };
  std::vector<Span> spans, open;
  for (size_t i = 0; i < arrays.size(); ++i) {
    const bool is_numpy = py::isinstance<py::array>(arrays[i]);
    const auto [begin, end] = is_numpy ? extent(py::reinterpret_borrow<py::array>(arrays[i]))
                                       : extent(arrays[i].cast<const DeviceArray&>().array);
    if (begin < end) spans.push_back({begin, end, i});
  }
  std::sort(spans.begin(), spans.end(),
            [](const Span& a, const Span& b) { return a.begin < b.begin; });
  std::vector<std::pair<size_t, size_t>> pairs;
  for (const Span& next : spans) {
    open.erase(std::remove_if(open.begin(), open.end(),
                              [&](const Span& e) { return e.end <= next.begin; }),
               open.end());
    for (const Span& e : open)
      if (share_memory(arrays[e.index], arrays[next.index]))
        pairs.push_back(std::minmax(e.index, next.index));
    open.push_back(next);
  }
  return pairs;
}

}  // namespace

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

Array prepared(py::handle value) {
  Array out;
  if (value.is_none()) return out;
  if (py::isinstance<py::array>(value)) {
    if (read_as_it_is(value, out)) return out;
  } else if (py::isinstance<DeviceArray>(value)) {
    return value.cast<const DeviceArray&>().array;
  }
  throw py::value_error("an array is not one that prepare() made: float32 or float64, aligned.");
}

bool is_mean(Reduction reduction) {
  return reduction == Reduction::mean || reduction == Reduction::half_mean;
}

namespace {

// What Python's code sees of an operand: a NumPy array or a DeviceArray, or None.
py::object as_prepared(const Array& a) {
  if (!a) return py::none();
  if (a.where.on_device) return py::cast(DeviceArray{a});
  return py::isinstance<py::array>(a.owner) ? a.owner : numpy_view(a);
}

// An array that is updated in place, as prepare() gives arrays. Another library's is never
// converted: TypeError or ValueError if it is not a float32 or float64 array that may be written.
py::object updatable(const std::string& name, const py::object& value) {
  if (py::isinstance<py::array>(value)) {
    const auto a = py::reinterpret_borrow<py::array>(value);
    refuse_repeats(name, Dims(a.shape(), a.shape() + a.ndim()),
                   Dims(a.strides(), a.strides() + a.ndim()));
    return value;
  }
  Array array;
  Home home;
  if (!read_foreign(name.c_str(), value, array, home))
    throw py::type_error(name + " is " + Py_TYPE(value.ptr())->tp_name +
                         " that is not a float32 or float64 array; only such arrays are updated in "
                         "place.");
  if (!array.is_writable) throw py::value_error(name + " is read-only; pass a writable array.");
  refuse_repeats(name, array.shape, array.strides);
  return as_prepared(array);
}

// An array of the same shape, dtype, library and device, not filled.
py::object empty_like(const py::object& value) {
  Array array;
  Home home;
  if (py::isinstance<py::array>(value) || !read_foreign("like", value, array, home))
    return py::module_::import("numpy").attr("empty_like")(value);
  return as_result(empty(array.shape, array.single, home), home);
}

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
  std::vector<Array> arrays(named.size());
  Home home;
  as_floats(named.data(), named.size(), arrays.data(), home);
  py::list out;
  for (const Array& a : arrays) out.append(as_prepared(a));
  return out;
}

}  // namespace

void register_arrays(py::module_& m) {
  m.def("prepare", &prepare);
  m.def("updatable", &updatable, py::arg("name"), py::arg("value"));
  m.def("tell_of_write", &tell_of_write, py::arg("value"));
  m.def("empty_like", &empty_like, py::arg("value"));
  m.def("overlapping", &overlapping, py::arg("arrays"));
}

}  // namespace gdcore
