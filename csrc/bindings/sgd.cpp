// One step of torch.optim.SGD on NumPy arrays.
#include "bindings/register.hpp"
#include "bindings/vectors.hpp"
#include "device.hpp"

namespace gdcore {
namespace {

// One step on arrays of the parameter's shape; param and velocity (None without momentum) are
// updated in place.
void step_in_place(py::array param, const py::object& grad, const py::object& velocity, bool first,
                   double lr, const SgdOptions& options) {
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
    if (v && overlap(extent(p), extent(v)))
      throw py::value_error(
          "a velocity shares memory with its parameter; give each its own, from init(params).");
    T* const p_data = static_cast<T*>(const_cast<void*>(p.data()));
    T* const v_data = velocity.is_none() ? nullptr : static_cast<T*>(const_cast<void*>(v.data()));
    const T* const g_data = g.data();
    compute([&] { host_device<T>().sgd(p.size(), p_data, g_data, v_data, first, lr, options); });
    if (!in_place(param)) param[py::ellipsis()] = p;
    if (!velocity.is_none() && !in_place(v_given)) v_given[py::ellipsis()] = v;
  });
}

}  // namespace

void register_sgd(py::module_& m) {
  m.def("sgd_step", &step_in_place, py::arg("param"), py::arg("grad"), py::arg("velocity"),
        py::arg("first"), py::arg("lr"), py::arg("options"));
}

}  // namespace gdcore
