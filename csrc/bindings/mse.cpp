// The squared error of two arrays, and its gradient.
#include "bindings/fastcall.hpp"
#include "bindings/register.hpp"
#include "bindings/results.hpp"
#include "device.hpp"

namespace gdcore {
namespace {

template <class T>
MseArgs<T> mse_args(const char* function, const Operands<2>& in) {
  const Dims &shape = in.arrays[0].shape, &target = in.arrays[1].shape;
  if (shape != target)
    throw py::value_error(
        std::string(function) + ": pred has shape " + text(shape) + " and target has shape " +
        text(target) +
        "; they must be equal. Reshape one: broadcasting here would average over pairs that do not "
        "belong together.");
  return {product(shape),
          {data_of<T>(in.arrays[0]), shape, in.arrays[0].strides},
          {data_of<T>(in.arrays[1]), shape, in.arrays[1].strides},
          MseOutput::none,
          nullptr};
}

Scale mse_scale(const char* function, int64_t size, Reduction reduction) {
  if (size == 0 && is_mean(reduction))
    throw py::value_error(
        std::string(function) +
        ": the mean over 0 elements is not defined; pass data, or reduction='sum'.");
  return scale_of(reduction, static_cast<double>(size));
}

// reduction="none" returns every square.
bool wants_squares(py::handle reduction) {
  return PyUnicode_Check(reduction.ptr()) &&
         PyUnicode_CompareWithASCIIString(reduction.ptr(), "none") == 0;
}

// The loss, and what else args ask for.
template <class T>
py::object loss_of(MseArgs<T>& args, const Operands<2>& in) {
  const auto run = [&] {
    compute_on<T>(in.home.where, static_cast<double>(args.size),
                  [&](const Device<T>& device) { device.mse(args); });
  };
  if (!in.home.like) {
    T loss;
    args.loss = &loss;
    run();
    return scalar(loss, in.single);
  }
  const Array loss = empty({}, in.single, in.home);
  args.loss = data_of<T>(loss);
  run();
  return as_result(loss, in.home);
}

template <class T>
py::object mse_as(const Operands<2>& in, py::handle reduction) {
  MseArgs<T> args = mse_args<T>("mse", in);
  if (wants_squares(reduction)) {
    const Array squares = empty(args.pred.shape, in.single, in.home);
    args.output = MseOutput::squares;
    args.out = data_of<T>(squares);
    compute_on<T>(in.home.where, static_cast<double>(args.size),
                  [&](const Device<T>& device) { device.mse(args); });
    return as_result(squares, in.home);
  }
  args.scale = mse_scale("mse", args.size, reduction_of(reduction, true));
  return loss_of(args, in);
}

py::object mse(py::handle pred, py::handle target, py::handle reduction) {
  FpEnv env;
  const auto in = as_floats({{"pred", pred}, {"target", target}});
  return dispatch(in.single, [&](auto t) { return mse_as<decltype(t)>(in, reduction); });
}

template <class T>
py::tuple mse_value_and_grad_as(const Operands<2>& in, py::handle reduction, py::handle out) {
  MseArgs<T> args = mse_args<T>("mse_value_and_grad", in);
  args.scale = mse_scale("mse_value_and_grad", args.size, reduction_of(reduction));
  Destination gradient("mse_value_and_grad", out, args.pred.shape, in, true);
  args.output = MseOutput::gradient;
  args.out = data_of<T>(gradient.array());
  const py::object loss = loss_of(args, in);
  return py::make_tuple(loss, gradient.finish());
}

py::tuple mse_value_and_grad(py::handle pred, py::handle target, py::handle reduction,
                             py::handle out) {
  FpEnv env;
  const auto in = as_floats({{"pred", pred}, {"target", target}});
  return dispatch(in.single,
                  [&](auto t) { return mse_value_and_grad_as<decltype(t)>(in, reduction, out); });
}

}  // namespace

void register_mse(py::module_& m) {
  static PyMethodDef methods[] = {
      fast_method<mse>("mse"),
      fast_method<mse_value_and_grad>("mse_value_and_grad"),
      {},
  };
  if (PyModule_AddFunctions(m.ptr(), methods) != 0) throw py::error_already_set();
}

}  // namespace gdcore
