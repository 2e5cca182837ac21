// The loss of a linear model, and its gradient.
#include <cmath>

#include "bindings/fastcall.hpp"
#include "bindings/register.hpp"
#include "bindings/results.hpp"
#include "device.hpp"

namespace gdcore {
namespace {

constexpr const char* linear_signature =
    " The shapes are X (…,n,d), y (…,n) or (…,n,t), weights (…,d) or (…,d,t), intercept (…) or "
    "(…,t), offset like y, sample_weight (…,n).";

enum LinearOperand { X_, y_, weights_, intercept_, offset_, sample_weight_ };
constexpr const char* linear_names[] = {"X",         "y",      "weights",
                                        "intercept", "offset", "sample_weight"};

struct LinearOperands : Operands<6> {
  const char* function;  // that was called
};

// Shapes of the whole call.
struct LinearShapes {
  int64_t n, d, t;
  bool several;  // y and weights carry a dimension of targets
  Dims batch;

  // The shape of the weights, or of the intercepts.
  Dims of_parameters(bool weights) const {
    Dims shape = batch;
    if (weights) shape.push_back(d);
    if (several) shape.push_back(t);
    return shape;
  }
};

// ValueError unless the operand's last dimensions are `core`. With `stretch`, sizes of 1 and
// missing dimensions broadcast.
void check_core(int which, const LinearOperands& in, const Dims& core, bool stretch) {
  const Dims& shape = in.arrays[which].shape;
  bool fits = stretch || shape.size() >= core.size();
  for (size_t i = 1; i <= std::min(core.size(), shape.size()); ++i) {
    const int64_t have = shape[shape.size() - i], want = core[core.size() - i];
    fits = fits && (have == want || (stretch && have == 1));
  }
  if (fits) return;
  throw py::value_error(std::string(in.function) + ": " + linear_names[which] + " has shape " +
                        text(shape) + ", which must end in " + text(core) + " given X " +
                        text(in.arrays[X_].shape) + " and y " + text(in.arrays[y_].shape) + "." +
                        linear_signature);
}

// The batch that all operands broadcast to.
Dims linear_batch(const LinearOperands& in, bool several) {
  const size_t targets = several ? 1 : 0;
  const size_t core[] = {2, 1 + targets, 1 + targets, targets, 1 + targets, 1};
  Dims batch;
  bool fits = true;
  for (size_t i = 0; i < in.arrays.size(); ++i)
    if (in.present(i)) fits = fits && broadcast(batch, in.arrays[i].shape.without_last(core[i]));
  if (fits) return batch;
  std::string call = std::string(in.function) + ":";
  for (size_t i = 0; i < in.arrays.size(); ++i)
    if (in.present(i))
      call += std::string(" ") + linear_names[i] + " " + text(in.arrays[i].shape) + ",";
  call.back() = ';';
  throw py::value_error(call + broadcast_rule);
}

LinearShapes linear_shapes(const LinearOperands& in) {
  const Dims &X = in.arrays[X_].shape, &y = in.arrays[y_].shape;
  if (X.size() < 2 || y.empty())
    throw py::value_error(
        std::string(in.function) + ": X has shape " + text(X) + " and y has shape " + text(y) +
        "; X needs rows and columns, y a row for each of X's." + linear_signature);
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

// One operand in the batch: data, strides of the batch dimensions, strides of its last dimensions.
template <class T>
struct Operand {
  T* data = nullptr;
  Dims batch;
  int64_t rs = 0, cs = 0;

  // `rows`, `columns`: whether the operand's last dimensions hold rows, columns.
  Operand(const Array& a, const LinearShapes& s, bool rows, bool columns) {
    if (!a) return;
    const Dims &shape = a.shape, &strides = a.strides;
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
  LossChoice loss;
  Operand<const T> X, y, weights, intercept, offset, sample_weight;

  LinearViews(const LinearOperands& in, const LinearShapes& shapes, const LossChoice& chosen)
      : s(shapes),
        loss(chosen),
        X(in.arrays[X_], s, true, true),
        y(in.arrays[y_], s, true, s.several),
        weights(in.arrays[weights_], s, true, s.several),
        intercept(in.arrays[intercept_], s, false, s.several),
        offset(in.arrays[offset_], s, true, s.several),
        sample_weight(in.arrays[sample_weight_], s, true, false) {}

  LinearArgs<T> problem(int64_t p) const {
    LinearArgs<T> args{s.n,
                       s.d,
                       s.t,
                       {X.at(s.batch, p), X.rs, X.cs},
                       {y.at(s.batch, p), y.rs, y.cs},
                       {offset.at(s.batch, p), offset.rs, offset.cs},
                       {sample_weight.at(s.batch, p), sample_weight.rs},
                       {weights.at(s.batch, p), weights.rs, weights.cs},
                       {intercept.at(s.batch, p), intercept.cs}};
    args.loss = loss;
    return args;
  }
  // Makes the args of one problem those of problem p: only addresses differ.
  void move_to(int64_t p, LinearArgs<T>& args) const {
    args.X.data = X.at(s.batch, p);
    args.y.data = y.at(s.batch, p);
    args.offset.data = offset.at(s.batch, p);
    args.sample_weight.data = sample_weight.at(s.batch, p);
    args.weights.data = weights.at(s.batch, p);
    args.intercept.data = intercept.at(s.batch, p);
  }
};

// loss (…), weights (…,d) or (…,d,t), intercept (…) or (…,t) or absent.
template <class T>
struct LinearResult {
  const LinearShapes& s;
  const Home& home;
  Array loss, weights, intercept;

  LinearResult(const LinearOperands& in, const LinearShapes& shapes)
      : s(shapes),
        home(in.home),
        loss(empty(s.batch, in.single, home)),
        weights(empty(s.of_parameters(true), in.single, home)),
        intercept(in.present(intercept_) ? empty(s.of_parameters(false), in.single, home)
                                         : Array()) {}

  // Sets where the device writes the results of problem p.
  void place(int64_t p, LossArgs<T>& args) const {
    args.loss = data_of<T>(loss) + p;
    args.weights = data_of<T>(weights) + p * s.d * s.t;
    args.intercept = intercept ? data_of<T>(intercept) + p * s.t : nullptr;
  }

  py::tuple finish() const {
    return py::make_tuple(as_result(loss, home), as_result(weights, home),
                          intercept ? as_result(intercept, home) : py::object(py::none()));
  }
};

// All problems of the batch, a block at a time. False if the mean of one of them is over nothing.
template <class T>
bool linear_problems(const Device<T>& device, const LinearViews<T>& views, Reduction reduction,
                     LinearResult<T>& result) {
  constexpr int64_t most = 4096;  // whose args are some megabytes
  const int64_t block = std::min(device.block, most);
  const LinearShapes& s = views.s;
  const int64_t problems = product(s.batch);
  if (problems == 0) return true;
  const LossArgs<T> first{views.problem(0), reduction, nullptr, nullptr, nullptr, nullptr};
  std::vector<LossArgs<T>> args(static_cast<size_t>(std::min(problems, block)), first);
  std::vector<double> elements(args.size());
  for (int64_t begin = 0; begin < problems; begin += block) {
    const int64_t count = std::min(block, problems - begin);
    for (int64_t i = 0; i < count; ++i) {
      views.move_to(begin + i, args[i].rows);
      args[i].elements = &elements[i];
      result.place(begin + i, args[i]);
    }
    device.linear_each(count, args.data());
    for (int64_t i = 0; i < count; ++i)
      if (is_mean(reduction) && elements[i] == 0) return false;
  }
  return true;
}

template <class T>
py::tuple linear_as(const LinearOperands& in, py::handle reduction_name, const LossChoice& loss) {
  const Reduction reduction = reduction_of(reduction_name);
  const LinearShapes s = linear_shapes(in);
  const LinearViews<T> views(in, s, loss);
  LinearResult<T> result(in, s);
  const double work = static_cast<double>(product(s.batch)) * static_cast<double>(s.n) *
                      static_cast<double>(s.t) * static_cast<double>(2 * s.d + 8);
  bool is_defined = true;
  compute_on<T>(in.home.where, work, [&](const Device<T>& device) {
    is_defined = linear_problems(device, views, reduction, result);
  });
  if (!is_defined)
    throw py::value_error(
        std::string(in.function) +
        ": the mean over 0 samples, or samples of no weight, is not defined; pass data, or "
        "reduction='sum'.");
  return result.finish();
}

LinearOperands linear_operands(const char* function, py::handle X, py::handle y, py::handle weights,
                               py::handle intercept, py::handle offset, py::handle sample_weight) {
  return {as_floats({{"X", X},
                     {"y", y},
                     {"weights", weights},
                     {"intercept", intercept, true},
                     {"offset", offset, true},
                     {"sample_weight", sample_weight, true}}),
          function};
}

py::tuple linear_mse_value_and_grad(py::handle X, py::handle y, py::handle weights,
                                    py::handle intercept, py::handle offset,
                                    py::handle sample_weight, py::handle reduction) {
  FpEnv env;
  const auto in =
      linear_operands("linear_mse_value_and_grad", X, y, weights, intercept, offset, sample_weight);
  return dispatch(in.single, [&](auto t) { return linear_as<decltype(t)>(in, reduction, {}); });
}

int place_of(py::handle loss) {
  int place = 0;
  std::string choices;
  for (const char* name : Losses::names) {
    if (PyUnicode_Check(loss.ptr()) && PyUnicode_CompareWithASCIIString(loss.ptr(), name) == 0)
      return place;
    choices += std::string(place++ ? " or '" : "'") + name + "'";
  }
  throw py::value_error("loss is " + py::repr(loss).cast<std::string>() + "; choose " + choices +
                        ".");
}

double delta_of(py::handle given, bool single) {
  const double delta = PyFloat_AsDouble(given.ptr());
  if (delta == -1.0 && PyErr_Occurred()) {
    PyErr_Clear();
    throw py::type_error("delta is " + py::repr(given).cast<std::string>() +
                         "; it must be a number above 0.");
  }
  const double rounded = single ? static_cast<float>(delta) : delta;
  if (!(rounded > 0 && std::isfinite(rounded)))
    throw py::value_error("delta is " + py::repr(given).cast<std::string>() +
                          "; it must be finite and above 0 in " +
                          (single ? "float32." : "float64."));
  return delta;
}

py::tuple linear_value_and_grad(py::handle X, py::handle y, py::handle weights,
                                py::handle intercept, py::handle offset, py::handle sample_weight,
                                py::handle reduction, py::handle loss, py::handle delta) {
  FpEnv env;
  const auto in =
      linear_operands("linear_value_and_grad", X, y, weights, intercept, offset, sample_weight);
  const LossChoice choice{place_of(loss), delta_of(delta, in.single)};
  return dispatch(in.single, [&](auto t) { return linear_as<decltype(t)>(in, reduction, choice); });
}

}  // namespace

void register_linear(py::module_& m) {
  static PyMethodDef methods[] = {
      fast_method<linear_mse_value_and_grad>("linear_mse_value_and_grad"),
      fast_method<linear_value_and_grad>("linear_value_and_grad"),
      {},
  };
  if (PyModule_AddFunctions(m.ptr(), methods) != 0) throw py::error_already_set();
}

}  // namespace gdcore
