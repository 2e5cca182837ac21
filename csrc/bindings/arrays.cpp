#include "bindings/arrays.hpp"

#include <algorithm>
#include <stdexcept>

namespace gdcore {
namespace {

bool is_number(const py::object& value) {
  return PyFloat_CheckExact(value.ptr()) || PyLong_CheckExact(value.ptr()) ||
         PyBool_Check(value.ptr());
}

std::string type_name(const py::object& value) {
  return py::type::of(value).attr("__name__").cast<std::string>();
}

py::array as_array(const char* name, const py::object& value) {
  if (py::isinstance<py::array>(value)) {
    const bool plain = Py_TYPE(value.ptr()) == py::detail::npy_api::get().PyArray_Type_;
    if (!plain && py::hasattr(value, "mask"))
      throw py::type_error(std::string(name) +
                           " is a masked array, whose mask would be lost; drop or fill the masked "
                           "entries first, for example with " +
                           name + ".filled(0).");
    return py::reinterpret_borrow<py::array>(value);
  }
  try {
    return py::module_::import("numpy").attr("asarray")(value).cast<py::array>();
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError) && !error.matches(PyExc_ValueError)) throw;
    throw py::type_error(std::string(name) + " is not an array of numbers (" + type_name(value) +
                         "); pass a NumPy array or nested lists of equal lengths.");
  }
}

// 4 or 8: bytes of the floating type that holds this dtype's values; TypeError if there is none.
int float_size(const char* name, const py::array& a) {
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
  throw py::type_error(
      std::string(name) + " has dtype " + py::str(dtype).cast<std::string>() +
      "; gdcore computes in float32 and float64: convert it first, for example with " + name +
      ".astype(numpy.float64).");
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

Operands as_floats(const std::vector<Named>& named) {
  Operands result;
  int size = 0;
  for (const auto& [name, value, optional] : named) {
    const bool present = !value.is_none();
    if (!present && !optional)
      throw py::type_error(std::string(name) + " is None; pass an array of numbers.");
    result.present.push_back(present);
    if (!present) {
      result.arrays.emplace_back();
      continue;
    }
    py::array a = as_array(name, value);
    const int own = float_size(name, a);
    if (!is_number(value)) size = std::max(size, own);
    result.arrays.push_back(std::move(a));
  }
  result.single = size == 4;
  for (size_t i = 0; i < named.size(); ++i)
    if (result.present[i] && !usable(result.arrays[i], result.single))
      result.arrays[i] = py::reinterpret_steal<py::array>(
          result.arrays[i].attr("astype")(float_dtype(result.single)).release());
  return result;
}

Shape shape_of(const py::array& a) { return Shape(a.shape(), a.shape() + a.ndim()); }

std::string text(const Shape& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + (shape.size() == 1 ? ",)" : ")");
}

Shape broadcast(const std::string& call, const std::vector<Shape>& shapes) {
  Shape out;
  for (const Shape& shape : shapes) {
    if (shape.size() > out.size()) out.insert(out.begin(), shape.size() - out.size(), 1);
    for (size_t i = 0; i < shape.size(); ++i) {
      int64_t& size = out[out.size() - shape.size() + i];
      if (size == 1) size = shape[i];
      if (shape[i] == size || shape[i] == 1) continue;
      throw py::value_error(
          call +
          " the batch dimensions do not broadcast: counted from the right, each must be 1 or "
          "equal to the others.");
    }
  }
  return out;
}

Shape batch_strides(const Shape& shape, const Shape& strides, size_t core, const Shape& batch) {
  Shape out(batch.size(), 0);
  const size_t own = shape.size() - std::min(core, shape.size());
  for (size_t i = 0; i < own; ++i)
    if (shape[i] != 1) out[batch.size() - own + i] = strides[i];
  return out;
}

int64_t batch_offset(const Shape& batch, const Shape& strides, int64_t index) {
  int64_t offset = 0;
  for (size_t dim = batch.size(); dim-- > 0;) {
    offset += index % batch[dim] * strides[dim];
    index /= batch[dim];
  }
  return offset;
}

int64_t product(const Shape& shape) {
  int64_t size = 1;
  for (int64_t n : shape)
    if (__builtin_mul_overflow(size, n, &size))
      throw py::value_error("the result of shape " + text(shape) + " is too large.");
  return size;
}

Destination::Destination(const char* function, const py::object& out, const Shape& shape,
                         bool single, const std::vector<py::array>& inputs, bool need_contiguous) {
  const py::dtype dtype = float_dtype(single);
  const std::string name = std::string(function) + ": out";
  if (!out.is_none()) {
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
    given_ = true;
    copy_back_ = !usable(out_, single) || (need_contiguous && !(out_.flags() & py::array::c_style));
    for (const py::array& input : inputs)
      copy_back_ = copy_back_ || (input && overlap(out_, input));
  }
  product(shape);
  array_ = given_ && !copy_back_
               ? out_
               : py::array(dtype, std::vector<py::ssize_t>(shape.begin(), shape.end()));
}

py::object Destination::finish() {
  if (copy_back_) out_[py::ellipsis()] = array_;
  if (given_) return out_;
  return array_.ndim() == 0 ? py::object(array_[py::tuple()]) : py::object(array_);
}

py::object scalar(double value, bool single) {
  if (!single) return py::array_t<double>(std::vector<py::ssize_t>{}, &value)[py::tuple()];
  const float narrow = static_cast<float>(value);
  return py::array_t<float>(std::vector<py::ssize_t>{}, &narrow)[py::tuple()];
}

Reduction reduction_of(const py::object& name, bool none_allowed) {
  if (py::isinstance<py::str>(name)) {
    const auto text = name.cast<std::string>();
    if (text == "mean") return Reduction::mean;
    if (text == "sum") return Reduction::sum;
    if (text == "half_mean") return Reduction::half_mean;
    if (text == "half_sum") return Reduction::half_sum;
  }
  throw py::value_error("reduction is " + py::repr(name).cast<std::string>() +
                        "; choose 'mean', 'sum', 'half_mean'" +
                        (none_allowed ? ", 'half_sum' or 'none'." : " or 'half_sum'."));
}

}  // namespace gdcore
