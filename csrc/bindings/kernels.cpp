#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "device.hpp"

namespace gdcore {
namespace {

Shape leading(const Shape& shape, size_t core) {
  return Shape(shape.begin(), shape.end() - static_cast<std::ptrdiff_t>(core));
}

template <class T>
T* data_of(const py::array& a) {
  return static_cast<T*>(const_cast<void*>(a.data()));
}

// ---- matmul ----

template <class T>
py::object matmul_as(const Operands& in, const py::object& out) {
  const py::array &a = in.arrays[0], &b = in.arrays[1];
  Shape a_shape = shape_of(a), b_shape = shape_of(b), a_strides = strides_of<T>(a),
        b_strides = strides_of<T>(b);
  const bool row = a.ndim() == 1, column = b.ndim() == 1;
  const std::string call = "matmul (m,k),(k,n)->(m,n): a has shape " + text(shape_of(a)) +
                           " and b has shape " + text(shape_of(b)) + ";";
  if (a.ndim() == 0 || b.ndim() == 0)
    throw py::value_error(call + " a scalar is no matrix, multiply with * instead.");
  if (row) a_shape.insert(a_shape.begin(), 1), a_strides.insert(a_strides.begin(), 0);
  if (column) b_shape.push_back(1), b_strides.push_back(0);
  const size_t an = a_shape.size(), bn = b_shape.size();
  const int64_t m = a_shape[an - 2], k = a_shape[an - 1], n = b_shape[bn - 1];
  if (b_shape[bn - 2] != k)
    throw py::value_error(call + " the columns of a (" + std::to_string(k) +
                          ") must equal the rows of b (" + std::to_string(b_shape[bn - 2]) + ").");

  MatmulArgs<T> args{m,
                     n,
                     k,
                     {data_of<T>(a), a_strides[an - 2], a_strides[an - 1]},
                     {data_of<T>(b), b_strides[bn - 2], b_strides[bn - 1]},
                     {nullptr, 0, 0},
                     {},
                     {},
                     {},
                     {}};
  args.batch = broadcast(call, {leading(a_shape, 2), leading(b_shape, 2)});
  args.a_batch = batch_strides(a_shape, a_strides, 2, args.batch);
  args.b_batch = batch_strides(b_shape, b_strides, 2, args.batch);

  Shape shape = args.batch;
  if (!row) shape.push_back(m);
  if (!column) shape.push_back(n);
  Destination destination("matmul", out, shape, in.single, in.arrays, false);
  const py::array& c = destination.array();
  Shape c_shape = shape_of(c), c_strides = strides_of<T>(c);
  if (row)
    c_shape.insert(c_shape.end() - (column ? 0 : 1), 1),
        c_strides.insert(c_strides.end() - (column ? 0 : 1), 1);
  if (column) c_shape.push_back(1), c_strides.push_back(1);
  const size_t cn = c_strides.size();
  args.c = {data_of<T>(c), m == 1 ? 1 : c_strides[cn - 2], n == 1 ? 1 : c_strides[cn - 1]};
  args.c_batch = batch_strides(c_shape, c_strides, 2, args.batch);
  if (args.c.rs != 1 && args.c.cs != 1) {  // the kernels write along one unit stride
    Destination whole("matmul", py::none(), shape, in.single, {}, true);
    MatmulArgs<T> dense = args;
    dense.c = {data_of<T>(whole.array()), n, 1};
    dense.c_batch = batch_strides(
        c_shape,
        [&] {
          Shape strides(cn, 0);
          int64_t next = 1;
          for (size_t i = cn; i-- > 0;) strides[i] = next, next *= c_shape[i];
          return strides;
        }(),
        2, args.batch);
    compute([&] { device<T>().matmul(dense); });
    destination.array()[py::ellipsis()] = whole.array();
  } else {
    compute([&] { device<T>().matmul(args); });
  }
  return destination.finish();
}

py::object matmul(const py::object& a, const py::object& b, const py::object& out) {
  FpEnv env;
  const Operands in = as_floats({{"a", a}, {"b", b}});
  return dispatch(in.single, [&](auto t) { return matmul_as<decltype(t)>(in, out); });
}

// ---- mse ----

template <class T>
MseArgs<T> mse_args(const char* function, const Operands& in) {
  const Shape shape = shape_of(in.arrays[0]), target = shape_of(in.arrays[1]);
  if (shape != target)
    throw py::value_error(
        std::string(function) + ": pred has shape " + text(shape) + " and target has shape " +
        text(target) +
        "; they must be equal. Reshape one: broadcasting here would average over pairs that do not "
        "belong together.");
  return {product(shape),
          {data_of<T>(in.arrays[0]), shape, strides_of<T>(in.arrays[0])},
          {data_of<T>(in.arrays[1]), shape, strides_of<T>(in.arrays[1])},
          MseOutput::none,
          nullptr,
          T(0)};
}

Scale mse_scale(const char* function, int64_t size, Reduction reduction) {
  if (size == 0 && (reduction == Reduction::mean || reduction == Reduction::half_mean))
    throw py::value_error(
        std::string(function) +
        ": the mean over 0 elements is not defined; pass data, or reduction='sum'.");
  return scale_of(reduction, static_cast<double>(size));
}

template <class T>
py::object mse_as(const Operands& in, const py::object& reduction) {
  MseArgs<T> args = mse_args<T>("mse", in);
  if (py::isinstance<py::str>(reduction) && reduction.cast<std::string>() == "none") {
    Destination out("mse", py::none(), args.pred.shape, in.single, {}, true);
    args.output = MseOutput::squares;
    args.out = data_of<T>(out.array());
    compute([&] { device<T>().mse(args); });
    return out.finish();
  }
  const Scale scale = mse_scale("mse", args.size, reduction_of(reduction, true));
  return scalar(compute([&] { return device<T>().mse(args) / scale.divisor; }), in.single);
}

py::object mse(const py::object& pred, const py::object& target, const py::object& reduction) {
  FpEnv env;
  const Operands in = as_floats({{"pred", pred}, {"target", target}});
  return dispatch(in.single, [&](auto t) { return mse_as<decltype(t)>(in, reduction); });
}

template <class T>
py::tuple mse_value_and_grad_as(const Operands& in, const py::object& reduction,
                                const py::object& out) {
  MseArgs<T> args = mse_args<T>("mse_value_and_grad", in);
  const Scale scale = mse_scale("mse_value_and_grad", args.size, reduction_of(reduction));
  Destination gradient("mse_value_and_grad", out, args.pred.shape, in.single, in.arrays, true);
  args.output = MseOutput::gradient;
  args.out = data_of<T>(gradient.array());
  args.gradient = static_cast<T>(scale.gradient);
  const double loss = compute([&] { return device<T>().mse(args) / scale.divisor; });
  return py::make_tuple(scalar(loss, in.single), gradient.finish());
}

py::tuple mse_value_and_grad(const py::object& pred, const py::object& target,
                             const py::object& reduction, const py::object& out) {
  FpEnv env;
  const Operands in = as_floats({{"pred", pred}, {"target", target}});
  return dispatch(in.single,
                  [&](auto t) { return mse_value_and_grad_as<decltype(t)>(in, reduction, out); });
}

// ---- linear_mse_value_and_grad ----

// One operand's place in the batch: data, strides over the batch, strides of its own last
// dimensions.
template <class T>
struct Operand {
  T* data = nullptr;
  Shape batch;
  int64_t rs = 0, cs = 0;

  T* at(const Shape& shape, int64_t index) const {
    return data ? data + batch_offset(shape, batch, index) : nullptr;
  }
};

// Shapes of the whole call: X (…,n,d), y (…,n) or (…,n,t), weights (…,d) or (…,d,t), intercept (…)
// or (…,t).
struct LinearShapes {
  int64_t n, d, t;
  bool several;  // y and weights carry a dimension of targets
  Shape batch;
};

constexpr const char* linear_signature =
    " The shapes are X (…,n,d), y (…,n) or (…,n,t), weights (…,d) or (…,d,t), intercept (…) or "
    "(…,t), offset like y, "
    "sample_weight (…,n).";

enum LinearOperand { X_, y_, weights_, intercept_, offset_, sample_weight_ };
constexpr const char* linear_names[] = {"X",         "y",      "weights",
                                        "intercept", "offset", "sample_weight"};

// The last dimensions of an operand, where they must be `core`; sizes of 1 and missing ones stretch
// if `stretch`.
void check_core(int which, const Operands& in, const Shape& core, bool stretch) {
  const Shape shape = shape_of(in.arrays[static_cast<size_t>(which)]);
  bool fits = stretch || shape.size() >= core.size();
  for (size_t i = 1; i <= std::min(core.size(), shape.size()); ++i) {
    const int64_t have = shape[shape.size() - i], want = core[core.size() - i];
    fits = fits && (have == want || (stretch && have == 1));
  }
  if (fits) return;
  std::string message = std::string("linear_mse_value_and_grad: ") + linear_names[which] +
                        " has shape " + text(shape) + ", which must end in " + text(core) +
                        " given X " + text(shape_of(in.arrays[X_])) + " and y " +
                        text(shape_of(in.arrays[y_])) + ".";
  throw py::value_error(message + linear_signature);
}

LinearShapes linear_shapes(const Operands& in) {
  const Shape X = shape_of(in.arrays[X_]), y = shape_of(in.arrays[y_]);
  if (X.size() < 2 || y.empty())
    throw py::value_error(
        "linear_mse_value_and_grad: X has shape " + text(X) + " and y has shape " + text(y) +
        "; X needs rows and columns, y a row for each of X's." + linear_signature);
  const bool several = y.size() >= X.size();
  LinearShapes s{X[X.size() - 2], X[X.size() - 1], several ? y.back() : 1, several, {}};
  const Shape rows = several ? Shape{s.n, s.t} : Shape{s.n};
  check_core(y_, in, rows, false);
  check_core(weights_, in, several ? Shape{s.d, s.t} : Shape{s.d}, false);
  if (in.present[intercept_] && several) check_core(intercept_, in, {s.t}, true);
  if (in.present[offset_]) check_core(offset_, in, rows, true);
  if (in.present[sample_weight_]) check_core(sample_weight_, in, {s.n}, true);

  std::string call = "linear_mse_value_and_grad:";
  std::vector<Shape> batches;
  const size_t core[] = {
      2, several ? 2u : 1u, several ? 2u : 1u, several ? 1u : 0u, several ? 2u : 1u, 1};
  for (size_t i = 0; i < in.arrays.size(); ++i) {
    if (!in.present[i]) continue;
    const Shape shape = shape_of(in.arrays[i]);
    batches.push_back(leading(shape, std::min(core[i], shape.size())));
    call += std::string(" ") + linear_names[i] + " " + text(shape) + ",";
  }
  call.back() = ';';
  s.batch = broadcast(call, batches);
  return s;
}

// `row_core`, `column_core`: whether the operand's last dimensions hold rows, columns.
template <class T>
Operand<const T> operand(const Operands& in, int which, const LinearShapes& s, bool row_core,
                         bool column_core) {
  if (!in.present[static_cast<size_t>(which)]) return {};
  const py::array& a = in.arrays[static_cast<size_t>(which)];
  const Shape shape = shape_of(a), strides = strides_of<T>(a);
  const auto stride = [&](size_t from_end) -> int64_t {
    if (from_end > shape.size() || shape[shape.size() - from_end] == 1) return 0;
    return strides[shape.size() - from_end];
  };
  const size_t core = static_cast<size_t>(row_core) + static_cast<size_t>(column_core);
  Operand<const T> o{data_of<const T>(a), batch_strides(shape, strides, core, s.batch), 0, 0};
  if (column_core) o.cs = stride(1);
  if (row_core) o.rs = stride(column_core ? 2 : 1);
  return o;
}

template <class T>
py::tuple linear_as(const Operands& in, const py::object& reduction_name) {
  const Reduction reduction = reduction_of(reduction_name);
  const LinearShapes s = linear_shapes(in);
  const int64_t problems = product(s.batch);
  const auto X = operand<T>(in, X_, s, true, true), y = operand<T>(in, y_, s, true, s.several);
  const auto weights = operand<T>(in, weights_, s, true, s.several),
             offset = operand<T>(in, offset_, s, true, s.several);
  const auto intercept = operand<T>(in, intercept_, s, false, s.several);
  const auto sample_weight = operand<T>(in, sample_weight_, s, true, false);

  Shape weights_shape = s.batch, intercept_shape = s.batch;
  weights_shape.push_back(s.d);
  if (s.several) weights_shape.push_back(s.t), intercept_shape.push_back(s.t);
  const char* name = "linear_mse_value_and_grad";
  Destination loss(name, py::none(), s.batch, in.single, {}, true);
  Destination grad(name, py::none(), weights_shape, in.single, {}, true);
  Destination grad_intercept(name, py::none(), intercept_shape, in.single, {}, true);
  T* const loss_out = data_of<T>(loss.array());
  T* const grad_out = data_of<T>(grad.array());
  T* const intercept_out = data_of<T>(grad_intercept.array());

  const bool mean = reduction == Reduction::mean || reduction == Reduction::half_mean;
  constexpr int64_t at_once = 256;
  std::vector<LinearArgs<T>> args(static_cast<size_t>(std::min(problems, at_once)));
  std::vector<LinearSums> sums(args.size());
  const bool empty = compute([&] {
    for (int64_t begin = 0; begin < problems; begin += at_once) {
      const int64_t count = std::min(at_once, problems - begin);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t p = begin + i;
        args[i] = {s.n,
                   s.d,
                   s.t,
                   {X.at(s.batch, p), X.rs, X.cs},
                   {y.at(s.batch, p), y.rs, y.cs},
                   {offset.at(s.batch, p), offset.rs, offset.cs},
                   {sample_weight.at(s.batch, p), sample_weight.rs},
                   {weights.at(s.batch, p), weights.rs, weights.cs},
                   {intercept.at(s.batch, p), intercept.cs}};
      }
      device<T>().linear_each(count, args.data(), sums.data());
      for (int64_t i = 0; i < count; ++i) {
        const int64_t p = begin + i;
        const double rows =
            in.present[sample_weight_] ? sums[i].sample_weight : static_cast<double>(s.n);
        const double elements = rows * static_cast<double>(s.t);
        if (mean && elements == 0) return true;
        const Scale scale = scale_of(reduction, elements);
        loss_out[p] = static_cast<T>(sums[i].squares / scale.divisor);
        for (int64_t j = 0; j < s.d * s.t; ++j)
          grad_out[p * s.d * s.t + j] =
              static_cast<T>(scale.gradient * sums[i].weights[static_cast<size_t>(j)]);
        for (int64_t u = 0; u < s.t; ++u)
          intercept_out[p * s.t + u] =
              static_cast<T>(scale.gradient * sums[i].intercept[static_cast<size_t>(u)]);
      }
    }
    return false;
  });
  if (empty)
    throw py::value_error(
        "linear_mse_value_and_grad: the mean over 0 samples, or samples of no weight, is not "
        "defined; "
        "pass data, or reduction='sum'.");
  return py::make_tuple(loss.finish(), grad.finish(),
                        in.present[intercept_] ? grad_intercept.finish() : py::object(py::none()));
}

py::tuple linear_mse_value_and_grad(const py::object& X, const py::object& y,
                                    const py::object& weights, const py::object& intercept,
                                    const py::object& offset, const py::object& sample_weight,
                                    const py::object& reduction) {
  FpEnv env;
  const Operands in = as_floats({{"X", X},
                                 {"y", y},
                                 {"weights", weights},
                                 {"intercept", intercept, true},
                                 {"offset", offset, true},
                                 {"sample_weight", sample_weight, true}});
  return dispatch(in.single, [&](auto t) { return linear_as<decltype(t)>(in, reduction); });
}

}  // namespace

void register_kernels(py::module_& m) {
  m.def("matmul", &matmul, py::arg("a"), py::arg("b"), py::arg("out") = py::none());
  m.def("mse", &mse, py::arg("pred"), py::arg("target"), py::arg("reduction"));
  m.def("mse_value_and_grad", &mse_value_and_grad, py::arg("pred"), py::arg("target"),
        py::arg("reduction"), py::arg("out"));
  m.def("linear_mse_value_and_grad", &linear_mse_value_and_grad, py::arg("X"), py::arg("y"),
        py::arg("weights"), py::arg("intercept"), py::arg("offset"), py::arg("sample_weight"),
        py::arg("reduction"));
}

}  // namespace gdcore
