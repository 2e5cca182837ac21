// One step of torch.optim.SGD on arrays.
#include "bindings/device_array.hpp"
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"
#include "device.hpp"

namespace gdcore {
namespace {

constexpr const char* shared_velocity =
    "a velocity shares memory with its parameter; give each its own, from init(params).";

const Array& on_device(const py::handle& value, const Array& param) {
  if (!py::isinstance<DeviceArray>(value))
    throw py::type_error(
        "a parameter is on a CUDA device and its gradient or velocity is not; copy "
        "one of them so that both are in one place.");
  const Array& a = value.cast<const DeviceArray&>().array;
  if (a.single != param.single || a.where.place.ordinal != param.where.place.ordinal)
    throw py::type_error(
        "a parameter and its gradient or velocity differ in dtype or device; convert one of them "
        "with its own library.");
  const cuda::Scope scope(param.where.place);
  if (a.where.place.stream != param.where.place.stream) cuda::wait_for(a.where.place.stream);
  return a;
}

void step_on_device(const Array& param, const py::object& grad, const py::object& velocity,
                    bool first, double lr, const SgdOptions& options) {
  const Array& g_given = on_device(grad, param);
  const Array v_given = velocity.is_none() ? Array() : on_device(velocity, param);
  if (v_given && overlap(extent(param), extent(v_given))) throw py::value_error(shared_velocity);
  const Array p = dense_on_device(param), v = v_given ? dense_on_device(v_given) : Array();
  Array g = dense_on_device(g_given);
  const bool is_shifted = overlap(extent(p), extent(g)) && p.data != g.data;
  if (is_shifted || (v && overlap(extent(v), extent(g)))) {
    const Array copy = empty_on_device(g.shape, g.single, param.where.place);
    copy_on_device(g, copy);
    g = copy;
  }
  dispatch(p.single, [&](auto zero) {
    using T = decltype(zero);
    compute_on<T>(p.where, 0, [&](const Device<T>& device) {
      device.sgd(product(p.shape), data_of<T>(p), data_of<T>(g), data_of<T>(v), first, lr, options);
    });
  });
  if (p.data != param.data) copy_on_device(p, param);
  if (v && v.data != v_given.data) copy_on_device(v, v_given);
}

// One step on arrays of the parameter's shape; param and velocity (None without momentum) are
// updated in place.
void step_in_place(const py::array& param, const py::object& grad, const py::object& velocity,
                   bool first, double lr, const SgdOptions& options) {
  FpEnv env;
  const bool single = param.itemsize() == 4;
  dispatch(single, [&](auto zero) {
    using T = decltype(zero);
    using Dense = py::array_t<T, aligned_dense>;
    const auto in_place = [](const py::array& a) {
      return (a.flags() & py::array::c_style) &&
             (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) &&
             a.dtype().equal(py::dtype::of<T>());
    };
    const auto dense = [&](const py::array& a) -> py::array {
      return in_place(a) ? a
                         : py::reinterpret_steal<py::array>(
                               a.attr("astype")(py::dtype::of<T>(), "C").release());
    };
    const py::array p = dense(param);
    Dense g = Dense::ensure(grad);
    if (!g) throw py::type_error("the gradient is not an array of numbers.");
    py::array v, v_given;
    if (!velocity.is_none()) {
      v_given = velocity.cast<py::array>();
      v = dense(v_given);
    }
    if ((overlap(extent(p), extent(g)) && p.data() != g.data()) ||
        (v && overlap(extent(v), extent(g))))
      g = Dense::ensure(g.attr("copy")());
    if (v && overlap(extent(p), extent(v))) throw py::value_error(shared_velocity);
    T* const p_data = static_cast<T*>(const_cast<void*>(p.data()));
    T* const v_data = velocity.is_none() ? nullptr : static_cast<T*>(const_cast<void*>(v.data()));
    const T* const g_data = g.data();
    compute([&] { host_device<T>().sgd(p.size(), p_data, g_data, v_data, first, lr, options); });
    if (!in_place(param)) param[py::ellipsis()] = p;
    if (!velocity.is_none() && !in_place(v_given)) v_given[py::ellipsis()] = v;
  });
}

// `param`, `grad` and `velocity` are NumPy arrays or all DeviceArrays.
void step(const py::object& param, const py::object& grad, const py::object& velocity, bool first,
          double lr, const SgdOptions& options) {
  if (py::isinstance<DeviceArray>(param))
    return step_on_device(param.cast<const DeviceArray&>().array, grad, velocity, first, lr,
                          options);
  step_in_place(param.cast<py::array>(), grad, velocity, first, lr, options);
}

}  // namespace

void register_sgd(py::module_& m) {
  m.def("sgd_step", &step, py::arg("param"), py::arg("grad"), py::arg("velocity"), py::arg("first"),
        py::arg("lr"), py::arg("options"));
}

}  // namespace gdcore
