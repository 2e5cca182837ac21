// Matrix products.
#include "bindings/fastcall.hpp"
#include "bindings/register.hpp"
#include "bindings/results.hpp"
#include "device.hpp"
#include "host.hpp"

namespace gdcore {
namespace {

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

MatmulShapes matmul_shapes(const Dims& a, const Dims& b) {
  const auto call = [&] {
    return "matmul (m,k),(k,n)->(m,n): a has shape " + text(a) + " and b has shape " + text(b) +
           ";";
  };
  if (a.empty() || b.empty())
    throw py::value_error(call() + " a scalar is not a matrix; multiply with * instead.");
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

// The matrices of an operand or result. `row`, `column`: one dimension, a single row or column.
template <class T>
struct Stack {
  Matrix<T> first;
  Dims batch;

  Stack(const Array& a, const Dims& batch_shape, bool row, bool column) {
    const Dims& strides = a.strides;
    const size_t core = 2 - static_cast<size_t>(row) - static_cast<size_t>(column);
    first = {data_of<T>(a), row ? 0 : strides[strides.size() - core], column ? 0 : strides.back()};
    batch = batch_strides(a.shape, strides, core, batch_shape);
  }
};

template <class T>
void multiply(const MatmulShapes& s, const Operands<2>& in, const Stack<T>& c) {
  const Stack<const T> a(in.arrays[0], s.batch, s.row, false);
  const Stack<const T> b(in.arrays[1], s.batch, false, s.column);
  const MatmulArgs<T> args{s.m,     s.n,     s.k,     a.first, b.first,
                           c.first, s.batch, a.batch, b.batch, c.batch};
  compute_on<T>(in.home.where, s.work(), [&](const Device<T>& device) { device.matmul(args); });
}

// The stride of a dimension of one element is arbitrary; 1 lets the kernels write in place.
template <class T>
Stack<T> result_stack(const Array& array, const MatmulShapes& s) {
  Stack<T> c(array, s.batch, s.row, s.column);
  if (s.m == 1) c.first.rs = 1;
  if (s.n == 1) c.first.cs = 1;
  return c;
}

template <class T>
py::object matmul_as(const Operands<2>& in, py::handle out) {
  const MatmulShapes s = matmul_shapes(in.arrays[0].shape, in.arrays[1].shape);
  Destination destination("matmul", out, s.result(), in, false);
  const auto c = result_stack<T>(destination.array(), s);
  if (c.first.rs == 1 || c.first.cs == 1) {
    multiply(s, in, c);
  } else {  // the kernels write along one unit stride
    multiply(s, in, result_stack<T>(destination.detour(), s));
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
  const MatmulShapes s = matmul_shapes(in.arrays[0].shape, in.arrays[1].shape);
  const Stack<const T> a(in.arrays[0], s.batch, s.row, false);
  const Stack<const T> b(in.arrays[1], s.batch, false, s.column);
  const Dims result = s.result();
  Dims shape{in.single ? 2 : 3};
  for (int64_t size : result) shape.push_back(size);
  py::array out = empty_numpy(shape, false);
  const int64_t size = product(result);
  const AccurateArgs<T> args{s.m,      s.n,     s.k,
                             a.first,  b.first, s.batch,
                             a.batch,  b.batch, static_cast<double*>(out.mutable_data()),
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

}  // namespace

void register_matmul(py::module_& m) {
  static PyMethodDef methods[] = {
      fast_method<matmul>("matmul"),
      fast_method<accurate_matmul>("accurate_matmul"),
      {},
  };
  if (PyModule_AddFunctions(m.ptr(), methods) != 0) throw py::error_already_set();
}

}  // namespace gdcore
