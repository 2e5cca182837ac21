#include "bindings/device_array.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/device_views.hpp"
#include "bindings/dlpack.hpp"
#include "bindings/register.hpp"
#include "cuda/copy.hpp"
#include "cuda/staging.hpp"

namespace gdcore {
namespace {

class Allocation {
 public:
  Allocation(const cuda::Place& place, size_t bytes, py::object stream_owner)
      : place_(place), stream_owner_(std::move(stream_owner)) {
    const cuda::Scope scope(place_);
    memory_ = std::make_unique<cuda::Memory>(bytes);
  }
  ~Allocation() {
    try {
      const cuda::Scope scope(place_);
      memory_.reset();
    } catch (const std::exception&) {
      (void)memory_.release();  // in a forked child, whose parent owns the device's memory
    }
  }
  void* at() const { return memory_->as<void>(); }

 private:
  cuda::Place place_;
  py::object stream_owner_;
  std::unique_ptr<cuda::Memory> memory_;
};

py::tuple tuple_of(const Dims& values, int64_t unit = 1) {
  py::tuple out(values.size());
  for (size_t i = 0; i < values.size(); ++i) out[i] = values[i] * unit;
  return out;
}

// ---- exports ----

struct Export {
  dlpack::Versioned versioned;
  dlpack::Managed managed;
  Array array;
};

void release(Export* given) {
  const py::gil_scoped_acquire gil;
  delete given;
}

void fill(dlpack::Tensor& tensor, Array& a) {
  tensor = {a.data,
            {dlpack::cuda, a.where.place.ordinal},
            static_cast<int32_t>(a.shape.size()),
            {dlpack::floating, static_cast<uint8_t>(a.single ? 32 : 64), 1},
            const_cast<int64_t*>(a.shape.begin()),
            const_cast<int64_t*>(a.strides.begin()),
            0};
}

// A capsule that deletes what nobody took over.
template <class Tensor>
py::object capsule_of(Tensor* tensor, const char* name) {
  PyObject* const capsule = PyCapsule_New(tensor, name, [](PyObject* self) {
    const char* const kind = PyCapsule_GetName(self);
    if (kind && kind[0] == 'u') return;  // used_dltensor...: taken over
    auto* const left = static_cast<Tensor*>(PyCapsule_GetPointer(self, kind));
    if (left) left->deleter(left);
  });
  if (!capsule) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(capsule);
}

// Lets a consumer's stream wait for the array. None: the legacy default stream; -1: none at all.
void order_before(const Array& a, const py::object& consumer) {
  const auto number = consumer.is_none() ? intptr_t{1} : consumer.cast<intptr_t>();
  if (number == -1) return;
  const cuda::Stream stream = number == 1 ? nullptr : reinterpret_cast<cuda::Stream>(number);
  if (stream == a.where.place.stream) return;
  const cuda::Scope scope({a.where.place.ordinal, stream});
  cuda::wait_for(a.where.place.stream);
}

py::object dlpack_of(const DeviceArray& a, const py::object& stream, const py::object& max_version,
                     const py::object& dl_device, const py::object& copy) {
  const auto where = py::make_tuple(static_cast<int>(dlpack::cuda), a.array.where.place.ordinal);
  if ((!dl_device.is_none() && !where.equal(dl_device)) || (!copy.is_none() && copy.cast<bool>()))
    throw py::buffer_error("an array on a CUDA device is exported where it is, without a copy.");
  order_before(a.array, stream);
  auto* const given = new Export{};
  given->array = a.array;
  const bool versioned =
      !max_version.is_none() && max_version.cast<py::tuple>()[0].cast<int>() >= 1;
  if (versioned) {
    given->versioned = {{1, 3},
                        given,
                        [](dlpack::Versioned* t) { release(static_cast<Export*>(t->context)); },
                        a.array.is_writable ? 0 : dlpack::read_only,
                        {}};
    fill(given->versioned.tensor, given->array);
    return capsule_of(&given->versioned, "dltensor_versioned");
  }
  given->managed = {
      {}, given, [](dlpack::Managed* t) { release(static_cast<Export*>(t->context)); }};
  fill(given->managed.tensor, given->array);
  return capsule_of(&given->managed, "dltensor");
}

py::dict interface_of(const DeviceArray& a) {
  const Array& array = a.array;
  py::dict interface;
  interface["shape"] = tuple_of(array.shape);
  interface["strides"] = tuple_of(array.strides, static_cast<int64_t>(array.itemsize()));
  interface["typestr"] = array.single ? "<f4" : "<f8";
  interface["data"] = py::make_tuple(reinterpret_cast<uintptr_t>(array.data), !array.is_writable);
  interface["version"] = 3;
  const auto stream = reinterpret_cast<uintptr_t>(array.where.place.stream);
  interface["stream"] = stream ? stream : 1;
  return interface;
}

py::object as_numpy(const DeviceArray& a, const py::object& dtype, const py::object& copy) {
  if (!copy.is_none() && !copy.cast<bool>())
    throw py::value_error("an array on a CUDA device cannot be a NumPy array without a copy.");
  const py::array out = download(a.array);
  return dtype.is_none() ? py::object(out) : out.attr("astype")(dtype, py::arg("copy") = false);
}

DeviceArray from_host(const py::array& values, int ordinal) {
  const bool single = usable(values, true);
  if (!single && !usable(values, false))
    throw py::type_error("only float32 and float64 arrays are uploaded; convert the array first.");
  const Dims shape(values.shape(), values.shape() + values.ndim());
  DeviceArray out{empty_on_device(shape, single, {ordinal, nullptr})};
  upload(values, out.array);
  return out;
}

}  // namespace

Array empty_on_device(const Dims& shape, bool single, const cuda::Place& place,
                      py::object stream_owner) {
  Array a;
  a.single = single;
  a.shape = shape;
  a.strides = contiguous_strides(shape);
  a.where = {true, place};
  const size_t bytes = static_cast<size_t>(product(shape)) * a.itemsize();
  auto allocation = std::make_unique<Allocation>(place, bytes, std::move(stream_owner));
  a.data = allocation->at();
  a.owner = py::capsule(allocation.get(), [](void* p) { delete static_cast<Allocation*>(p); });
  (void)allocation.release();
  return a;
}

void upload(const py::array& from, const Array& to) {
  const auto run = [&](auto&& copy) {
    compute([&] {
      const cuda::Scope scope(to.where.place);
      copy();
    });
  };
  if (from.ndim() == 2 && from.strides(1) == from.itemsize()) {
    const auto row_bytes = static_cast<size_t>(from.shape(1) * from.itemsize());
    return run([&, rows = from.shape(0), stride = from.strides(0), data = from.data()] {
      cuda::upload_rows(to.data, data, rows, row_bytes, stride);
    });
  }
  const auto dense = py::array::ensure(from, py::array::c_style);
  if (!dense) throw py::error_already_set();
  run([&, bytes = static_cast<size_t>(dense.nbytes()), data = dense.data()] {
    cuda::upload(to.data, data, bytes);
  });
}

// The bytes that the array spans are copied as they are, then its elements are picked on the host.
// Where most of those bytes belong to others, the elements are picked on the device.
py::array download(const Array& a) {
  const auto [begin, end] = extent(a);
  const auto bytes = static_cast<size_t>(end - begin);
  if (bytes / 2 > static_cast<size_t>(product(a.shape)) * a.itemsize())
    return download(dense_on_device(a));
  const py::array_t<char> span(static_cast<py::ssize_t>(bytes));
  char* const to = const_cast<char*>(span.data());
  compute([&, from = begin] {
    const cuda::Scope scope(a.where.place);
    cuda::download(to, from, bytes);
  });
  Array local = a;
  local.where = {};
  local.data = to + (static_cast<const char*>(a.data) - begin);
  local.owner = span;
  return numpy_view(local).attr("copy")();
}

void copy_on_device(const Array& from, const Array& to) {
  const cuda::Scope scope(from.where.place);
  dispatch(from.single, [&](auto zero) {
    using T = decltype(zero);
    cuda::copy<T>({data_of<const T>(from), from.shape, from.strides},
                  {data_of<T>(to), to.shape, to.strides});
  });
}

Array number_on_device(double value, bool single, const cuda::Place& place) {
  const Array number = empty_on_device({}, single, place);
  const cuda::Scope scope(place);
  dispatch(single, [&](auto zero) {
    using T = decltype(zero);
    cuda::set<T>(data_of<T>(number), static_cast<T>(value));
  });
  return number;
}

Array dense_on_device(const Array& a) {
  if (is_contiguous(a)) return a;
  const Array dense = empty_on_device(a.shape, a.single, a.where.place);
  copy_on_device(a, dense);
  return dense;
}

namespace {

// A contiguous array of the rows of several arrays of one device and dtype, copied there.
DeviceArray joined(const std::vector<DeviceArray>& parts) {
  const Array& first = parts.at(0).array;
  Dims shape = first.shape;
  shape[0] = 0;
  for (const auto& [part] : parts) shape[0] += part.shape[0];
  DeviceArray out{empty_on_device(shape, first.single, first.where.place)};
  const cuda::Scope scope(first.where.place);
  Array rest = out.array;
  for (const auto& [part] : parts) {
    cuda::wait_for(part.where.place.stream);
    rest.shape = part.shape;
    if (is_contiguous(part)) {
      cuda::copy_on_device(rest.data, part.data,
                           static_cast<size_t>(product(part.shape)) * part.itemsize());
    } else {
      Array from = part;
      from.where = rest.where;
      copy_on_device(from, rest);
    }
    rest.data =
        static_cast<char*>(rest.data) + product(part.shape) * static_cast<int64_t>(part.itemsize());
  }
  return out;
}

}  // namespace

void register_device_array(py::module_& m) {
  py::class_<DeviceArray>(m, "DeviceArray")
      .def_static("from_host", &from_host, py::arg("values"), py::arg("ordinal") = 0)
      .def_static("joined", &joined, py::arg("parts"))
      .def_property_readonly("shape", [](const DeviceArray& a) { return tuple_of(a.array.shape); })
      .def_property_readonly("ndim", [](const DeviceArray& a) { return a.array.shape.size(); })
      .def_property_readonly("dtype",
                             [](const DeviceArray& a) { return float_dtype(a.array.single); })
      .def_property_readonly("size", [](const DeviceArray& a) { return product(a.array.shape); })
      .def_property_readonly("nbytes",
                             [](const DeviceArray& a) {
                               return product(a.array.shape) *
                                      static_cast<int64_t>(a.array.itemsize());
                             })
      .def_property_readonly("ordinal",
                             [](const DeviceArray& a) { return a.array.where.place.ordinal; })
      .def_property_readonly("T",
                             [](const DeviceArray& a) { return DeviceArray{transposed(a.array)}; })
      .def("__len__",
           [](const DeviceArray& a) {
             if (a.array.shape.empty()) throw py::type_error("a 0-d array has no length.");
             return a.array.shape[0];
           })
      .def(
          "__getitem__",
          [](const DeviceArray& a, const py::object& index) {
            return DeviceArray{view_at(a.array, index)};
          },
          py::arg("index"))
      .def(
          "broadcast_to",
          [](const DeviceArray& a, const std::vector<int64_t>& shape) {
            return DeviceArray{
                view_of_shape(a.array, Dims(shape.data(), shape.data() + shape.size()))};
          },
          py::arg("shape"))
      .def("numpy", [](const DeviceArray& a) { return download(a.array); })
      .def("__array__", &as_numpy, py::arg("dtype") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack__", &dlpack_of, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(),
           py::arg("copy") = py::none())
      .def("__dlpack_device__",
           [](const DeviceArray& a) {
             return py::make_tuple(static_cast<int>(dlpack::cuda), a.array.where.place.ordinal);
           })
      .def_property_readonly("__cuda_array_interface__", &interface_of);
}

}  // namespace gdcore
