#include "bindings/arrays.hpp"
#include "bindings/fastcall.hpp"
#include "bindings/register.hpp"
#include "device.hpp"
#include "host.hpp"

namespace gdcore {
namespace {

// ---- matmul ----

// a (…,m,k), b (…,k,n); the result lacks the dimension that a one-dimensional operand lacks.
struct MatmulShapes {
  bool row, column;  // a, b have one dimension
  int64_t m, n, k;
  Dims batch;

  Dims result() const {
    Dims shape = batch;
    if (!row) shape.push_back(m);
    if (!column) shape.push_back(n);
    return shape;
  }
  double work() const {
    double work = static_cast<double>(m) * static_cast<double>(n) *
                  static_cast<double>(std::max<int64_t>(k, 1));
    for (int64_t size : batch) work *= static_cast<double>(size);
    return work;
  }
};

MatmulShapes matmul_shapes(const py::array& a_array, const py::array& b_array) {
  const Dims a = shape_of(a_array), b = shape_of(b_array);
  const auto call = [&] {
    return "matmul (m,k),(k,n)->(m,n): a has shape " + text(a) + " and b has shape " + text(b) +
           ";";
  };
  if (a.empty() || b.empty())
    throw py::value_error(call() + " a scalar is no matrix, multiply with * instead.");
  const bool row = a.size() == 1, column = b.size() == 1;
  const int64_t m = row ? 1 : a[a.size() - 2], n = column ? 1 : b.back();
  const int64_t k = a.back(), b_rows = column ? b.back() : b[b.size() - 2];
  if (b_rows != k)
    throw py::value_error(call() + " the columns of a (" + std::to_string(k) +
                          ") must equal the rows of b (" + std::to_string(b_rows) + ").");
  MatmulShapes s{row, column, m, n, k, a.without_last(2)};
  if (!broadcast(s.batch, b.without_last(2))) throw py::value_error(call() + broadcast_rule);
  return s;
}

// The matrices of an operand or result. `row`, `column`: it has no dimension of rows, of columns.
template <class T>
struct Stack {
  Matrix<T> first;
  Dims batch;

  Stack(const py::array& a, const Dims& batch_shape, bool row, bool column) {
    const Dims strides = strides_of<T>(a);
    const size_t core = 2 - static_cast<size_t>(row) - static_cast<size_t>(column);
    first = {data_of<T>(a), row ? 0 : strides[strides.size() - core], column ? 0 : strides.back()};
    batch = batch_strides(shape_of(a), strides, core, batch_shape);
  }
};

template <class T>
void multiply(const MatmulShapes& s, const Operands<2>& in, const Stack<T>& c) {
  const Stack<const T> a(in.arrays[0], s.batch, s.row, false);
  const Stack<const T> b(in.arrays[1], s.batch, false, s.column);
  const MatmulArgs<T> args{s.m,     s.n,     s.k,     a.first, b.first,
                           c.first, s.batch, a.batch, b.batch, c.batch};
  compute(s.work(), [&] { host_device<T>().matmul(args); });
}

// A stride over one element is of no account, and read as 1.
template <class T>
Stack<T> result_stack(const py::array& array, const MatmulShapes& s) {
  Stack<T> c(array, s.batch, s.row, s.column);
  if (s.m == 1) c.first.rs = 1;
  if (s.n == 1) c.first.cs = 1;
  return c;
}

template <class T>
py::object matmul_as(const Operands<2>& in, py::handle out) {
  const MatmulShapes s = matmul_shapes(in.arrays[0], in.arrays[1]);
  Destination destination("matmul", out, s.result(), in, false);
  const auto c = result_stack<T>(destination.array(), s);
  if (c.first.rs == 1 || c.first.cs == 1) {
    multiply(s, in, c);
  } else {  // the kernels write along one unit stride
    const py::array dense = empty(s.result(), in.single);
    multiply(s, in, result_stack<T>(dense, s));
    destination.array()[py::ellipsis()] = dense;
  }
  return destination.finish();
}

py::object matmul(py::handle a, py::handle b, py::handle out) {
  FpEnv env;
  const auto in = as_floats({{"a", a}, {"b", b}});
  return dispatch(in.single, [&](auto t) { return matmul_as<decltype(t)>(in, out); });
}

// ---- accurate_matmul ----

// (parts, …, m, n): hi and size, and for float64 lo.
template <class T>
py::array accurate_matmul_as(const Operands<2>& in) {
  const MatmulShapes s = matmul_shapes(in.arrays[0], in.arrays[1]);
  const Stack<const T> a(in.arrays[0], s.batch, s.row, false);
  const Stack<const T> b(in.arrays[1], s.batch, false, s.column);
  const Dims result = s.result();
  Dims shape{in.single ? 2 : 3};
  for (int64_t size : result) shape.push_back(size);
  const py::array out = empty(shape, false);
  const int64_t size = product(result);
  const AccurateArgs<T> args{
      s.m,      s.n, s.k, a.first, b.first, s.batch, a.batch, b.batch, data_of<double>(out),
      2 * size, size};
  compute(s.work(), [&] { host::accurate(args); });
  return out;
}

py::object accurate_matmul(py::handle a, py::handle b) {
  FpEnv env;
  const auto in = as_floats({{"a", a}, {"b", b}});
  return dispatch(in.single,
                  [&](auto t) -> py::object { return accurate_matmul_as<decltype(t)>(in); });
}

// ---- mse ----

template <class T>
MseArgs<T> mse_args(const char* function, const Operands<2>& in) {
  const Dims shape = shape_of(in.arrays[0]), target = shape_of(in.arrays[1]);
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
  if (size == 0 && is_mean(reduction))
    throw py::value_error(
        std::string(function) +
        ": the mean over 0 elements is not defined; pass data, or reduction='sum'.");
  return scale_of(reduction, static_cast<double>(size));
}

// "none": every square by itself.
bool wants_squares(py::handle reduction) {
  return PyUnicode_Check(reduction.ptr()) &&
         PyUnicode_CompareWithASCIIString(reduction.ptr(), "none") == 0;
}

template <class T>
py::object mse_as(const Operands<2>& in, py::handle reduction) {
  MseArgs<T> args = mse_args<T>("mse", in);
  const auto work = static_cast<double>(args.size);
  if (wants_squares(reduction)) {
    const py::array squares = empty(args.pred.shape, in.single);
    args.output = MseOutput::squares;
    args.out = data_of<T>(squares);
    compute(work, [&] { host_device<T>().mse(args); });
    return as_result(squares);
  }
  const Scale scale = mse_scale("mse", args.size, reduction_of(reduction, true));
  return scalar(compute(work, [&] { return host_device<T>().mse(args) / scale.divisor; }),
                in.single);
}

py::object mse(py::handle pred, py::handle target, py::handle reduction) {
  FpEnv env;
  const auto in = as_floats({{"pred", pred}, {"target", target}});
  return dispatch(in.single, [&](auto t) { return mse_as<decltype(t)>(in, reduction); });
}

template <class T>
py::tuple mse_value_and_grad_as(const Operands<2>& in, py::handle reduction, py::handle out) {
  MseArgs<T> args = mse_args<T>("mse_value_and_grad", in);
  const Scale scale = mse_scale("mse_value_and_grad", args.size, reduction_of(reduction));
  Destination gradient("mse_value_and_grad", out, args.pred.shape, in, true);
  args.output = MseOutput::gradient;
  args.out = data_of<T>(gradient.array());
  args.gradient = static_cast<T>(scale.gradient);
  const double loss = compute(static_cast<double>(args.size),
                              [&] { return host_device<T>().mse(args) / scale.divisor; });
  return py::make_tuple(scalar(loss, in.single), gradient.finish());
}

py::tuple mse_value_and_grad(py::handle pred, py::handle target, py::handle reduction,
                             py::handle out) {
  FpEnv env;
  const auto in = as_floats({{"pred", pred}, {"target", target}});
  return dispatch(in.single,
                  [&](auto t) { return mse_value_and_grad_as<decltype(t)>(in, reduction, out); });
}

// ---- linear_mse_value_and_grad ----

constexpr const char* linear = "linear_mse_value_and_grad";
constexpr const char* linear_signature =
    " The shapes are X (…,n,d), y (…,n) or (…,n,t), weights (…,d) or (…,d,t), intercept (…) or "
    "(…,t), offset like y, sample_weight (…,n).";

enum LinearOperand { X_, y_, weights_, intercept_, offset_, sample_weight_ };
constexpr const char* linear_names[] = {"X",         "y",      "weights",
                                        "intercept", "offset", "sample_weight"};
using LinearOperands = Operands<6>;

// Shapes of the whole call.
struct LinearShapes {
  int64_t n, d, t;
  bool several;  // y and weights carry a dimension of targets
  Dims batch;
};

// The last dimensions of an operand, where they must be `core`; sizes of 1 and missing ones stretch
// if `stretch`.
void check_core(int which, const LinearOperands& in, const Dims& core, bool stretch) {
  const Dims shape = shape_of(in.arrays[which]);
  bool fits = stretch || shape.size() >= core.size();
  for (size_t i = 1; i <= std::min(core.size(), shape.size()); ++i) {
    const int64_t have = shape[shape.size() - i], want = core[core.size() - i];
    fits = fits && (have == want || (stretch && have == 1));
  }
  if (fits) return;
  throw py::value_error(std::string(linear) + ": " + linear_names[which] + " has shape " +
                        text(shape) + ", which must end in " + text(core) + " given X " +
                        text(shape_of(in.arrays[X_])) + " and y " + text(shape_of(in.arrays[y_])) +
                        "." + linear_signature);
}

// The batch that all operands broadcast to.
Dims linear_batch(const LinearOperands& in, bool several) {
  const size_t targets = several ? 1 : 0;
  const size_t core[] = {2, 1 + targets, 1 + targets, targets, 1 + targets, 1};
  Dims batch;
  bool fits = true;
  for (size_t i = 0; i < in.arrays.size(); ++i)
    if (in.present(i))
      fits = fits && broadcast(batch, shape_of(in.arrays[i]).without_last(core[i]));
  if (fits) return batch;
  std::string call = std::string(linear) + ":";
  for (size_t i = 0; i < in.arrays.size(); ++i)
    if (in.present(i))
      call += std::string(" ") + linear_names[i] + " " + text(shape_of(in.arrays[i])) + ",";
  call.back() = ';';
  throw py::value_error(call + broadcast_rule);
}

LinearShapes linear_shapes(const LinearOperands& in) {
  const Dims X = shape_of(in.arrays[X_]), y = shape_of(in.arrays[y_]);
  if (X.size() < 2 || y.empty())
    throw py::value_error(std::string(linear) + ": X has shape " + text(X) + " and y has shape " +
                          text(y) + "; X needs rows and columns, y a row for each of X's." +
                          linear_signature);
  const bool several = y.size() >= X.size();
  const int64_t n = X[X.size() - 2], d = X.back(), t = several ? y.back() : 1;
  const Dims rows = several ? Dims{n, t} : Dims{n};
  check_core(y_, in, rows, false);
  check_core(weights_, in, several ? Dims{d, t} : Dims{d}, false);
  if (in.present(intercept_) && several) check_core(intercept_, in, {t}, true);
  if (in.present(offset_)) check_core(offset_, in, rows, true);
  if (in.present(sample_weight_)) check_core(sample_weight_, in, {n}, true);
  return {n, d, t, several, linear_batch(in, several)};
}

// One operand's place in the batch: data, strides over the batch, strides of its own last
// dimensions.
template <class T>
struct Operand {
  T* data = nullptr;
  Dims batch;
  int64_t rs = 0, cs = 0;

  // `rows`, `columns`: whether the operand's last dimensions hold rows, columns.
  Operand(const py::array& a, const LinearShapes& s, bool rows, bool columns) {
    if (!a) return;
    const Dims shape = shape_of(a), strides = strides_of<T>(a);
    const auto stride = [&](size_t from_end) -> int64_t {
      if (from_end > shape.size() || shape[shape.size() - from_end] == 1) return 0;
      return strides[shape.size() - from_end];
    };
    data = data_of<T>(a);
    batch = batch_strides(shape, strides, static_cast<size_t>(rows) + static_cast<size_t>(columns),
                          s.batch);
    if (columns) cs = stride(1);
    if (rows) rs = stride(columns ? 2 : 1);
  }

  T* at(const Dims& shape, int64_t index) const {
    return data ? data + offset_of(index, shape, batch) : nullptr;
  }
};

template <class T>
struct LinearViews {
  const LinearShapes& s;
  Operand<const T> X, y, weights, intercept, offset, sample_weight;

  LinearViews(const LinearOperands& in, const LinearShapes& shapes)
      : s(shapes),
        X(in.arrays[X_], s, true, true),
        y(in.arrays[y_], s, true, s.several),
        weights(in.arrays[weights_], s, true, s.several),
        intercept(in.arrays[intercept_], s, false, s.several),
        offset(in.arrays[offset_], s, true, s.several),
        sample_weight(in.arrays[sample_weight_], s, true, false) {}

  LinearArgs<T> problem(int64_t p) const {
    return {s.n,
            s.d,
            s.t,
            {X.at(s.batch, p), X.rs, X.cs},
            {y.at(s.batch, p), y.rs, y.cs},
            {offset.at(s.batch, p), offset.rs, offset.cs},
            {sample_weight.at(s.batch, p), sample_weight.rs},
            {weights.at(s.batch, p), weights.rs, weights.cs},
            {intercept.at(s.batch, p), intercept.cs}};
  }
};

// loss (…), weights (…,d) or (…,d,t), intercept (…) or (…,t) or absent.
template <class T>
struct LinearResult {
  const LinearShapes& s;
  py::array loss, weights, intercept = no_array();

  LinearResult(const LinearOperands& in, const LinearShapes& shapes)
      : s(shapes), loss(empty(s.batch, in.single)), weights(no_array()) {
    Dims weights_shape = s.batch, intercept_shape = s.batch;
    weights_shape.push_back(s.d);
    if (s.several) weights_shape.push_back(s.t), intercept_shape.push_back(s.t);
    weights = empty(weights_shape, in.single);
    if (in.present(intercept_)) intercept = empty(intercept_shape, in.single);
  }

  void write(int64_t p, const LinearSums& sums, const Scale& scale) {
    const auto closed = [&](const std::vector<double>& sum, T* out) {
      for (size_t i = 0; i < sum.size(); ++i) out[i] = static_cast<T>(scale.gradient * sum[i]);
    };
    data_of<T>(loss)[p] = static_cast<T>(sums.squares / scale.divisor);
    closed(sums.weights, data_of<T>(weights) + p * s.d * s.t);
    if (intercept) closed(sums.intercept, data_of<T>(intercept) + p * s.t);
  }

  py::tuple finish() const {
    return py::make_tuple(as_result(loss), as_result(weights),
                          intercept ? as_result(intercept) : py::object(py::none()));
  }
};

// All problems of the batch, some at once. False if the mean of one of them is over nothing.
template <class T>
bool linear_problems(const LinearViews<T>& views, Reduction reduction, LinearResult<T>& result) {
  constexpr int64_t at_once = 256;
  const LinearShapes& s = views.s;
  const int64_t problems = product(s.batch);
  std::vector<LinearArgs<T>> args(static_cast<size_t>(std::min(problems, at_once)));
  std::vector<LinearSums> sums(args.size());
  for (int64_t begin = 0; begin < problems; begin += at_once) {
    const int64_t count = std::min(at_once, problems - begin);
    for (int64_t i = 0; i < count; ++i) args[i] = views.problem(begin + i);
    host_device<T>().linear_each(count, args.data(), sums.data());
    for (int64_t i = 0; i < count; ++i) {
      const bool weighted = views.sample_weight.data;
      const double rows = weighted ? sums[i].sample_weight : static_cast<double>(s.n);
      const double elements = rows * static_cast<double>(s.t);
      if (is_mean(reduction) && elements == 0) return false;
      result.write(begin + i, sums[i], scale_of(reduction, elements));
    }
  }
  return true;
}

template <class T>
py::tuple linear_as(const LinearOperands& in, py::handle reduction_name) {
  const Reduction reduction = reduction_of(reduction_name);
  const LinearShapes s = linear_shapes(in);
  const LinearViews<T> views(in, s);
  LinearResult<T> result(in, s);
  const double work = static_cast<double>(product(s.batch)) * static_cast<double>(s.n) *
                      static_cast<double>(s.t) * static_cast<double>(2 * s.d + 8);
  if (!compute(work, [&] { return linear_problems(views, reduction, result); }))
    throw py::value_error(
        std::string(linear) +
        ": the mean over 0 samples, or samples of no weight, is not defined; pass data, or "
        "reduction='sum'.");
  return result.finish();
}

py::tuple linear_mse_value_and_grad(py::handle X, py::handle y, py::handle weights,
                                    py::handle intercept, py::handle offset,
                                    py::handle sample_weight, py::handle reduction) {
  FpEnv env;
  const auto in = as_floats({{"X", X},
                             {"y", y},
                             {"weights", weights},
                             {"intercept", intercept, true},
                             {"offset", offset, true},
                             {"sample_weight", sample_weight, true}});
  return dispatch(in.single, [&](auto t) { return linear_as<decltype(t)>(in, reduction); });
}

}  // namespace

void register_kernels(py::module_& m) {
  static PyMethodDef methods[] = {
      fast_method<matmul>("matmul"),
      fast_method<accurate_matmul>("accurate_matmul"),
      fast_method<mse>("mse"),
      fast_method<mse_value_and_grad>("mse_value_and_grad"),
      fast_method<linear_mse_value_and_grad>(linear),
      {},
  };
  if (PyModule_AddFunctions(m.ptr(), methods) != 0) throw py::error_already_set();
}

}  // namespace gdcore
