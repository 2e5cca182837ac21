#include "bindings/results.hpp"

#include "bindings/device_array.hpp"
#include "bindings/result_memory.hpp"

namespace gdcore {
namespace {

template <class T>
py::object scalar_of(T value) {
  const py::dtype dtype = py::dtype::of<T>();
  PyObject* const x = py::detail::npy_api::get().PyArray_Scalar_(&value, dtype.ptr(), nullptr);
  if (!x) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(x);
}

py::object as_numpy_result(const Array& a) {
  if (!a.shape.empty()) return a.owner;
  return a.single ? scalar_of(*data_of<float>(a)) : scalar_of(*data_of<double>(a));
}

// Reports an allocator's error as Python's.
void set_error(void*, const char* kind, const char* message) {
  PyErr_SetString(std::string(kind) == "MemoryError" ? PyExc_MemoryError : PyExc_RuntimeError,
                  message);
}

// An array made by the library's own allocator, in its own type.
Array allocated(const Dims& shape, bool single, const Home& home) {
  Array a;
  a.shape = shape;
  a.strides = contiguous_strides(shape);
  a.single = single;
  a.where = home.where;
  const bool on_device = home.where.on_device;
  dlpack::Tensor wanted{nullptr,
                        {on_device ? dlpack::cuda : dlpack::cpu, home.where.place.ordinal},
                        static_cast<int32_t>(shape.size()),
                        {dlpack::floating, static_cast<uint8_t>(single ? 32 : 64), 1},
                        const_cast<int64_t*>(a.shape.begin()),
                        const_cast<int64_t*>(a.strides.begin()),
                        0};
  dlpack::Versioned* made = nullptr;
  if (home.api->allocate(&wanted, &made, nullptr, set_error) != 0) throw py::error_already_set();
  a.data = static_cast<char*>(made->tensor.data) + made->tensor.byte_offset;
  void* object = nullptr;
  if (home.api->to_object(made, &object) != 0) throw py::error_already_set();
  a.owner = py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
  return a;
}

}  // namespace

Array empty(const Dims& shape, bool single, const Home& home) {
  Array a;  // returned from one place, and so never copied
  if (home.api) {
    product(shape);
    a = allocated(shape, single, home);
  } else if (home.where.on_device) {
    a = empty_on_device(shape, single, home.where.place, stream_owner(home.like));
  } else {
    set_numpy(a, empty_result(shape, single), single);
  }
  return a;
}

py::object as_result(const Array& a, const Home& home) {
  if (!home.like) return as_numpy_result(a);
  if (home.api) return a.owner;
  const py::object from_dlpack = importer_of(home.like);
  if (home.where.on_device) {
    const py::object made = py::cast(DeviceArray{a});
    return from_dlpack ? from_dlpack(made) : made;
  }
  return from_dlpack ? from_dlpack(a.owner) : as_numpy_result(a);
}

py::object scalar(double value, bool single) {
  return single ? scalar_of(static_cast<float>(value)) : scalar_of(value);
}

namespace {

[[noreturn]] void refuse_out(const std::string& name, const Home& home) {
  throw py::type_error(
      name + " must be " +
      (home.like ? "an array of the inputs' library, where they are" : "a NumPy array") +
      ", or None.");
}

void check_out(const std::string& name, const py::dtype& have, bool is_right, bool single,
               const Dims& shape, const Dims& result) {
  if (!is_right)
    throw py::type_error(name + " has dtype " + py::str(have).cast<std::string>() +
                         ", but the result is " + py::str(float_dtype(single)).cast<std::string>() +
                         "; give an array of that dtype.");
  if (shape != result)
    throw py::value_error(name + " has shape " + text(shape) + ", but the result has shape " +
                          text(result) + ".");
}

}  // namespace

Destination::Destination(const char* function, py::handle out, const Dims& shape, bool single,
                         const Home& home, const Array* inputs, size_t count, bool need_contiguous)
    : home_(home), single_(single), array_(out.is_none() ? empty(shape, single, home) : Array()) {
  if (out.is_none()) return;
  const std::string name = std::string(function) + ": out";
  given_ = py::reinterpret_borrow<py::object>(out);
  Extent span;
  if (py::isinstance<py::array>(out)) {
    if (home.like) refuse_out(name, home);
    auto a = py::reinterpret_borrow<py::array>(out);
    check_out(name, a.dtype(), a.dtype().equal(float_dtype(single)), single,
              Dims(a.shape(), a.shape() + a.ndim()), shape);
    array_.is_writable = a.writeable();
    refuse_repeats(name, shape, Dims(a.strides(), a.strides() + a.ndim()));
    copy_back_ = !usable(a, single);
    span = extent(a);
    into_ = a;
    if (!copy_back_) set_numpy(array_, std::move(a), single);
  } else {
    Home own = home;
    if (!home.like || !read_foreign(name.c_str(), out, array_, own) ||
        array_.where.on_device != home.where.on_device)
      refuse_out(name, home);
    check_out(name, float_dtype(array_.single), array_.single == single, single, array_.shape,
              shape);
    refuse_repeats(name, shape, array_.strides);
    span = extent(array_);
    if (home.where.on_device) {
      into_on_device_ = array_;
    } else {
      into_ = numpy_view(array_);
    }
  }
  if (!array_.is_writable) throw py::value_error(name + " is read-only; give a writable array.");
  copy_back_ = copy_back_ || (need_contiguous && !is_contiguous(array_));
  for (size_t i = 0; i < count; ++i)
    copy_back_ = copy_back_ || (inputs[i] && overlap(span, extent(inputs[i])));
  if (copy_back_) make_copy(shape);
}

void Destination::make_copy(const Dims& shape) {
  if (home_.where.on_device) {
    array_ = empty_on_device(shape, single_, home_.where.place);
  } else {
    set_numpy(array_, empty_numpy(shape, single_), single_);
  }
}

const Array& Destination::detour() {
  if (!given_) return array_;  // of no elements
  copy_back_ = true;
  make_copy(Dims(array_.shape));
  return array_;
}

py::object Destination::finish() {
  if (copy_back_ && home_.where.on_device) {
    copy_on_device(array_, into_on_device_);
  } else if (copy_back_) {
    into_[py::ellipsis()] = array_.owner;
  }
  if (given_ && home_.like) tell_of_write(given_);
  return given_ ? given_ : as_result(array_, home_);
}

}  // namespace gdcore
