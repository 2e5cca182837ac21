#include "bindings/foreign.hpp"

#include <pybind11/stl.h>

#include <algorithm>

#include "bindings/device_array.hpp"

namespace gdcore {
namespace {

// An attribute, or null if there is none, without forming an error.
py::object attribute(py::handle value, PyObject* name) {
  PyObject* found = nullptr;
#if PY_VERSION_HEX >= 0x030D0000
  const int status = PyObject_GetOptionalAttr(value.ptr(), name, &found);
#else
  const int status = _PyObject_LookupAttr(value.ptr(), name, &found);
#endif
  if (status < 0) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(found);
}

PyObject* interned(const char* name) { return PyUnicode_InternFromString(name); }

// Forgets the error of a producer that cannot export its array: NumPy may read it, or say why not.
void clear_error() {
  if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError))
    throw py::error_already_set();
  PyErr_Clear();
}

std::string of_device(int ordinal) { return "on CUDA device " + std::to_string(ordinal); }

// ---- where ----

// The top-level module of the value's type, if it has been imported.
py::object library_of(py::handle value, std::string& name) {
  static PyObject* const module_name = interned("__module__");
  const py::object module = attribute(py::type::of(value), module_name);
  if (!module || !py::isinstance<py::str>(module)) return {};
  name = module.cast<std::string>();
  name = name.substr(0, name.find('.'));
  PyObject* const found = PyDict_GetItemString(PyImport_GetModuleDict(), name.c_str());
  return py::reinterpret_borrow<py::object>(found);
}

// The stream on which the caller's library works on this device now. The libraries that are not
// named here use the legacy default stream.
cuda::Stream current_stream(py::handle value, const dlpack::Api* api, int ordinal) {
  if (api) {
    cuda::Stream stream = nullptr;
    if (api->current_stream(dlpack::cuda, ordinal, &stream) != 0) throw py::error_already_set();
    return stream;
  }
  std::string name;
  const py::object library = library_of(value, name);
  const auto address = [](const py::object& number) {
    return reinterpret_cast<cuda::Stream>(number.cast<uintptr_t>());
  };
  if (library && name == "cupy")
    return address(library.attr("cuda").attr("get_current_stream")().attr("ptr"));
  if (library && name == "torch")
    return address(library.attr("cuda").attr("current_stream")(ordinal).attr("cuda_stream"));
  return nullptr;
}

// Makes the call work on this device, or checks that it does.
void settle_device(const char* name, int ordinal, cuda::Stream stream, Home& home) {
  if (!home.where.on_device) {
    home.where = {true, {ordinal, stream}};
    home.on_device = name;
  } else if (home.where.place.ordinal != ordinal) {
    throw py::value_error(
        std::string(home.on_device) + " is " + of_device(home.where.place.ordinal) + " and " +
        name + " " + of_device(ordinal) + "; copy one of them so that both are on one device.");
  }
}

// Orders the call's work behind another stream's.
void follow(cuda::Stream stream, const Home& home) {
  if (stream == home.where.place.stream) return;
  const cuda::Scope scope(home.where.place);
  cuda::wait_for(stream);
}

// ---- what DLPack describes ----

[[noreturn]] void refuse_device_dtype(const char* name, const std::string& dtype, int ordinal) {
  throw py::type_error(std::string(name) + " is " + of_device(ordinal) + " and has dtype " + dtype +
                       "; gdcore computes in float32 and float64 there: convert it with its own "
                       "library.");
}

std::string text(const dlpack::DataType& dtype) {
  const char* const kind = dtype.code == dlpack::integer            ? "int"
                           : dtype.code == dlpack::unsigned_integer ? "uint"
                           : dtype.code == dlpack::floating         ? "float"
                           : dtype.code == dlpack::bfloat           ? "bfloat"
                           : dtype.code == dlpack::boolean          ? "bool"
                                                                    : nullptr;
  if (!kind) return "that is not real";
  return dtype.code == dlpack::boolean ? kind : kind + std::to_string(dtype.bits);
}

bool is_on_host(int type) { return type == dlpack::cpu || type == dlpack::cuda_host; }

// ValueError or TypeError for memory that gdcore cannot use.
void check_device(const char* name, int type) {
  if (is_on_host(type) || type == dlpack::cuda) return;
  if (type == dlpack::cuda_managed)
    throw py::type_error(
        std::string(name) +
        " is in managed memory, which the host and the device both own; copy it to "
        "plain device memory, or to the CPU.");
  throw py::type_error(std::string(name) +
                       " is on a device that gdcore does not compute on (DLPack "
                       "device type " +
                       std::to_string(type) + "); copy it to the CPU.");
}

// False for what only NumPy can convert.
bool read_tensor(const char* name, const dlpack::Tensor& tensor, Array& array, const Home& home) {
  const auto& [code, bits, lanes] = tensor.dtype;
  const int64_t *const begin = tensor.shape, *const end = begin + tensor.ndim;
  if (!tensor.data && std::find(begin, end, 0) == end)
    throw py::type_error(std::string(name) +
                         " has a shape and no numbers, as while torch traces; pass an array that "
                         "has some.");
  const bool on_device = tensor.device.type == dlpack::cuda;
  if (code != dlpack::floating || (bits != 32 && bits != 64) || lanes != 1) {
    if (on_device) refuse_device_dtype(name, text(tensor.dtype), tensor.device.id);
    return false;
  }
  array.single = bits == 32;
  array.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  if (reinterpret_cast<uintptr_t>(array.data) % array.itemsize() != 0) {
    if (on_device)
      throw py::value_error(std::string(name) + " begins in the middle of a number; copy it.");
    return false;
  }
  array.shape = Dims(tensor.shape, tensor.shape + tensor.ndim);
  array.strides = tensor.strides ? Dims(tensor.strides, tensor.strides + tensor.ndim)
                                 : contiguous_strides(array.shape);
  if (on_device) array.where = home.where;
  return true;
}

// ---- the table of C functions ----

const dlpack::Api* api_of(py::handle value) {
  static PyObject* const name = interned("__dlpack_c_exchange_api__");
  constexpr const char* kind = "dlpack_exchange_api";
  const py::object capsule = attribute(reinterpret_cast<PyObject*>(Py_TYPE(value.ptr())), name);
  if (!capsule || !PyCapsule_IsValid(capsule.ptr(), kind)) return nullptr;
  auto* api = static_cast<const dlpack::Api*>(PyCapsule_GetPointer(capsule.ptr(), kind));
  while (api && api->version.major != 1) api = api->previous;
  return api;
}

// torch exports a tensor whose sign is still to be flipped with the wrong sign.
py::object resolved(py::handle value) {
  static PyObject* const name = interned("is_neg");
  const py::object is_neg = attribute(value, name);
  if (is_neg && is_neg().cast<bool>()) return value.attr("resolve_neg")();
  return py::reinterpret_borrow<py::object>(value);
}

bool read_by_table(const char* name, py::handle value, const dlpack::Api* api, Array& array,
                   Home& home) {
  const py::object whole = resolved(value);
  dlpack::Tensor tensor;
  if (api->view(whole.ptr(), &tensor) != 0) {
    clear_error();
    return false;
  }
  check_device(name, tensor.device.type);
  if (tensor.device.type == dlpack::cuda) {
    const cuda::Stream stream = current_stream(value, api, tensor.device.id);
    settle_device(name, tensor.device.id, stream, home);
    follow(stream, home);
  }
  if (!read_tensor(name, tensor, array, home)) return false;
  array.owner = whole;
  array.is_writable = whole.is(value);  // what was resolved is a copy
  return true;
}

// ---- __dlpack__ ----

// Owns what a capsule handed over.
template <class Tensor>
py::object owner_of(Tensor* managed) {
  return py::capsule(managed, [](void* pointer) {
    auto* const tensor = static_cast<Tensor*>(pointer);
    if (tensor->deleter) tensor->deleter(tensor);
  });
}

// Before DLPack 1.0 no capsule says so. JAX's arrays are the only ones that are.
bool is_immutable(py::handle value) {
  std::string name;
  library_of(value, name);
  return name == "jax" || name == "jaxlib";
}

// The tensor in a capsule, whose owner becomes the array's.
const dlpack::Tensor& take(const py::object& capsule, Array& array, bool is_immutable) {
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* const managed =
        static_cast<dlpack::Versioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != 1) {
      PyErr_SetString(PyExc_BufferError, "this version of DLPack is not known");
      throw py::error_already_set();
    }
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    array.owner = owner_of(managed);
    array.is_writable = !(managed->flags & dlpack::read_only);
    return managed->tensor;
  }
  auto* const managed =
      static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!managed) throw py::error_already_set();
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  array.owner = owner_of(managed);
  array.is_writable = !is_immutable;
  return managed->tensor;
}

// Calls __dlpack__, which before DLPack 1.0 takes no max_version.
py::object exported(py::handle value, const py::object& stream) {
  const py::object method = value.attr("__dlpack__");
  py::dict how;
  if (!stream.is_none()) how["stream"] = stream;
  try {
    return method(**how, py::arg("max_version") = py::make_tuple(1, 3));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return method(**how);
}

// As DLPack numbers streams: 1 is the legacy default one.
py::object stream_number(cuda::Stream stream) {
  return py::int_(stream ? reinterpret_cast<uintptr_t>(stream) : 1);
}

bool read_by_dlpack(const char* name, py::handle value, const py::object& where, Array& array,
                    Home& home) {
  const auto device = where().cast<py::tuple>();
  const int type = device[0].cast<int>(), ordinal = device[1].cast<int>();
  check_device(name, type);
  if (is_on_host(type)) {
    try {
      return read_tensor(name, take(exported(value, py::none()), array, is_immutable(value)), array,
                         home);
    } catch (py::error_already_set& error) {
      error.restore();
      clear_error();
      return false;
    }
  }
  settle_device(name, ordinal, current_stream(value, nullptr, ordinal), home);
  const py::object capsule = exported(value, stream_number(home.where.place.stream));
  return read_tensor(name, take(capsule, array, is_immutable(value)), array, home);
}

// ---- __cuda_array_interface__ ----

// False for an interface without what version 3 demands.
bool read_by_interface(const char* name, py::handle value, const py::dict& interface, Array& array,
                       Home& home) {
  for (const char* needed : {"shape", "typestr", "data"})
    if (!interface.contains(needed)) return false;
  const auto data = interface["data"].cast<py::tuple>();
  const auto shape = interface["shape"].cast<std::vector<int64_t>>();
  const auto type = interface["typestr"].cast<std::string>();
  array.data = reinterpret_cast<void*>(data[0].cast<uintptr_t>());
  array.is_writable = !data[1].cast<bool>();
  const int ordinal = array.data ? cuda::ordinal_of(array.data) : home.where.place.ordinal;
  if (array.data) cuda::refuse_managed(array.data);
  if (type != "<f4" && type != "<f8") refuse_device_dtype(name, "'" + type + "'", ordinal);
  if (interface.contains("mask") && !interface["mask"].is_none())
    throw py::type_error(std::string(name) + " has a mask, which would be lost; fill it first.");
  settle_device(name, ordinal, current_stream(value, nullptr, ordinal), home);
  if (interface.contains("stream") && !interface["stream"].is_none()) {
    const auto number = interface["stream"].cast<uintptr_t>();
    follow(number == 1 ? nullptr : reinterpret_cast<cuda::Stream>(number), home);
  }
  array.single = type == "<f4";
  if (reinterpret_cast<uintptr_t>(array.data) % array.itemsize() != 0)
    throw py::value_error(std::string(name) + " begins in the middle of a number; copy it.");
  array.shape = Dims(shape.data(), shape.data() + shape.size());
  array.strides = contiguous_strides(array.shape);
  if (interface.contains("strides") && !interface["strides"].is_none()) {
    const auto strides = interface["strides"].cast<std::vector<int64_t>>();
    const auto size = static_cast<int64_t>(array.itemsize());
    for (size_t i = 0; i < strides.size(); ++i) {
      if (strides[i] % size != 0)
        throw py::value_error(std::string(name) + " has strides of parts of numbers; copy it.");
      array.strides[i] = strides[i] / size;
    }
  }
  array.where = home.where;
  array.owner = py::reinterpret_borrow<py::object>(value);
  return true;
}

bool read_own(const char* name, py::handle value, Array& array, Home& home) {
  array = value.cast<const DeviceArray&>().array;
  settle_device(name, array.where.place.ordinal, array.where.place.stream, home);
  follow(array.where.place.stream, home);
  array.where = home.where;
  return true;
}

}  // namespace

void tell_of_write(py::handle value) {
  static PyObject* const tensor_name = interned("Tensor");
  PyObject* const torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
  const py::object tensor = torch ? attribute(torch, tensor_name) : py::object();
  if (!tensor || !py::isinstance(value, tensor)) return;
  if (value.attr("is_inference")().cast<bool>()) return;  // which has no versions
  py::handle(torch).attr("autograd").attr("graph").attr("increment_version")(value);
}

py::object importer_of(py::handle value) {
  static PyObject* const namespace_name = interned("__array_namespace__");
  static PyObject* const from_dlpack = interned("from_dlpack");
  const py::object get_namespace = attribute(value, namespace_name);
  if (get_namespace) return attribute(get_namespace(), from_dlpack);
  std::string name;
  const py::object library = library_of(value, name);
  return library ? attribute(library, from_dlpack) : py::object();
}

py::object stream_owner(py::handle value) {
  std::string name;
  const py::object library = library_of(value, name);
  if (!library || name != "cupy") return {};
  return library.attr("cuda").attr("get_current_stream")();
}

bool read_foreign(const char* name, py::handle value, Array& array, Home& home) {
  static PyObject* const dlpack_device = interned("__dlpack_device__");
  static PyObject* const cuda_interface = interned("__cuda_array_interface__");
  const dlpack::Api* const api = api_of(value);
  const bool is_own = !api && py::isinstance<DeviceArray>(value);
  const py::object device = api || is_own ? py::object() : attribute(value, dlpack_device);
  py::object interface;
  if (!api && !is_own && !device) interface = attribute(value, cuda_interface);
  if (!api && !is_own && !device && !interface) return false;
  if (!home.like) {
    home.like = value;
    home.api = api;
  }
  if (api) return read_by_table(name, value, api, array, home);
  if (is_own) return read_own(name, value, array, home);
  if (device) return read_by_dlpack(name, value, device, array, home);
  return read_by_interface(name, value, interface, array, home);
}

}  // namespace gdcore
