// The contract on bits ("numerics v2") as plain scalar loops. Every other device equals this file
// bit for bit.
#include <cmath>
#include <type_traits>

#include "descend.hpp"
#include "device.hpp"
#include "double_double.hpp"
#include "lanczos.hpp"
#include "ordinary_epoch.hpp"
#include "reference/reference.hpp"

namespace gdcore {
namespace {

// acc[0..V) folded to its first `keep` lanes: lane i takes lane i + h for h = 8, 4, 2, 1.
template <class T>
void fold(T* acc, int64_t lanes, int64_t keep) {
  for (int64_t h = lanes / 2; h >= keep; h /= 2)
    for (int64_t i = 0; i < h; ++i) acc[i] += acc[i + h];
}

// x (k) . y (k), the order of every product that ends in one value a row.
template <class T>
T dot(int64_t k, Vector<const T> x, Vector<const T> y) {
  const int64_t lanes = lanes_of(k);
  LongSum<T> total;
  for (int64_t p0 = 0; p0 < k; p0 += L<T>) {
    T acc[V] = {};
    for (int64_t p = p0; p < k && p < p0 + L<T>; ++p) {
      T& lane = acc[p % lanes];
      lane = std::fma(x.data[p * x.stride], y.data[p * y.stride], lane);
    }
    fold(acc, lanes, 1);
    total.add(acc[0]);
  }
  return total.total();
}

// The same for each element of a product with n >= 2 columns: one chain over k, cut into segments.
template <class T>
T chain(int64_t k, Vector<const T> x, Vector<const T> y) {
  LongSum<T> total;
  for (int64_t p0 = 0; p0 < k; p0 += L<T>) {
    T acc = 0;
    for (int64_t p = p0; p < k && p < p0 + L<T>; ++p)
      acc = std::fma(x.data[p * x.stride], y.data[p * y.stride], acc);
    total.add(acc);
  }
  return total.total();
}

template <class T>
T product(int64_t n, int64_t k, Vector<const T> x, Vector<const T> y) {
  return n == 1 ? dot(k, x, y) : chain(k, x, y);
}

template <class T>
void matmul(const MatmulArgs<T>& args) {
  int64_t problems = 1;
  for (int64_t size : args.batch) problems *= size;
  for (int64_t problem = 0; problem < problems; ++problem) {
    int64_t rest = problem, a = 0, b = 0, c = 0;
    for (size_t dim = args.batch.size(); dim-- > 0;) {
      const int64_t index = rest % args.batch[dim];
      rest /= args.batch[dim];
      a += index * args.a_batch[dim];
      b += index * args.b_batch[dim];
      c += index * args.c_batch[dim];
    }
    for (int64_t i = 0; i < args.m; ++i)
      for (int64_t j = 0; j < args.n; ++j)
        args.c.data[c + i * args.c.rs + j * args.c.cs] =
            product<T>(args.n, args.k, {args.a.data + a + i * args.a.rs, args.a.cs},
                       {args.b.data + b + j * args.b.cs, args.b.rs});
  }
}

template <class T>
T element(const Elements<const T>& x, int64_t index) {
  int64_t at = 0;
  for (size_t dim = x.shape.size(); dim-- > 0;) {
    at += index % x.shape[dim] * x.strides[dim];
    index /= x.shape[dim];
  }
  return x.data[at];
}

template <class T>
void mse(const MseArgs<T>& args) {
  const SquaredError<T> loss;
  LongSum<double> total;
  for (int64_t i0 = 0; i0 < args.size; i0 += L<T>) {
    T acc[V] = {};
    for (int64_t i = i0; i < args.size && i < i0 + L<T>; ++i) {
      const T r = element(args.pred, i) - element(args.target, i), slope = loss.slope(r);
      acc[i % V] = std::fma(slope, loss.ratio(r, slope), acc[i % V]);
      if (args.output == MseOutput::gradient) args.out[i] = args.gradient() * slope;
      if (args.output == MseOutput::squares) args.out[i] = loss.value(r);
    }
    fold(acc, V, 1);
    total.add(acc[0]);
  }
  if (args.loss) *args.loss = closed_loss<T>(args.scale, total.total());
}

// One target: gradients of up to 16 features run interleaved chains over the rows.
template <class T>
void add_single_target(const LinearArgs<T>& args, int64_t rows, const int64_t* row,
                       const T* weighted, LinearSums& sums) {
  const int64_t chains = chains_of(args.d);
  for (int64_t j = 0; j < args.d; ++j) {
    T acc[V] = {};
    for (int64_t i = 0; i < rows; ++i) {
      T& lane = acc[i % chains];
      lane = std::fma(weighted[i], args.X.data[row[i] * args.X.rs + j * args.X.cs], lane);
    }
    fold(acc, chains, 1);
    sums.weights[static_cast<size_t>(j)] += acc[0];
  }
  T acc[V] = {};
  for (int64_t i = 0; i < rows; ++i) acc[i % V] += weighted[i];
  fold(acc, V, 1);
  sums.intercept[0] += acc[0];
}

// Several targets: one chain over the rows for each entry.
template <class T>
void add_several_targets(const LinearArgs<T>& args, int64_t rows, const int64_t* row,
                         const T* weighted, LinearSums& sums) {
  for (int64_t u = 0; u < args.t; ++u) {
    for (int64_t j = 0; j < args.d; ++j) {
      T acc = 0;
      for (int64_t i = 0; i < rows; ++i)
        acc = std::fma(args.X.data[row[i] * args.X.rs + j * args.X.cs], weighted[i * args.t + u],
                       acc);
      sums.weights[static_cast<size_t>(j * args.t + u)] += acc;
    }
    T acc = 0;
    for (int64_t i = 0; i < rows; ++i) acc += weighted[i * args.t + u];
    sums.intercept[static_cast<size_t>(u)] += acc;
  }
}

template <class T>
void linear_segment(const LinearArgs<T>& args, int64_t begin, int64_t rows, LinearSums& sums) {
  std::vector<int64_t> row(static_cast<size_t>(rows));
  std::vector<T> weighted(static_cast<size_t>(rows * args.t));
  std::vector<T> ratio(static_cast<size_t>(rows * args.t));
  double weight_sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t position = args.first + begin + i;
    row[i] = args.order ? (*args.order)(position) : position;
    const T* s = args.sample_weight.data
                     ? args.sample_weight.data + row[i] * args.sample_weight.stride
                     : nullptr;
    if (s) weight_sum += *s;
    for (int64_t u = 0; u < args.t; ++u) {
      T r = product<T>(args.t, args.d, {args.X.data + row[i] * args.X.rs, args.X.cs},
                       {args.weights.data + u * args.weights.cs, args.weights.rs});
      if (args.intercept.data) r += args.intercept.data[u * args.intercept.stride];
      if (args.offset.data) r += args.offset.data[row[i] * args.offset.rs + u * args.offset.cs];
      if (args.y.data) r -= args.y.data[row[i] * args.y.rs + u * args.y.cs];
      Losses::visit(args.loss, static_cast<T>(args.loss.delta), [&](auto loss) {
        const T slope = loss.slope(r);
        ratio[i * args.t + u] = loss.ratio(r, slope);
        weighted[i * args.t + u] = s ? *s * slope : slope;
      });
    }
  }
  // The losses in the order of mse over the residuals (rows, t), so that the two agree.
  for (int64_t e0 = 0; e0 < rows * args.t; e0 += L<T>) {
    T acc[V] = {};
    for (int64_t e = e0; e < rows * args.t && e < e0 + L<T>; ++e)
      acc[e % V] = std::fma(weighted[e], ratio[e], acc[e % V]);
    fold(acc, V, 1);
    sums.add_squares(acc[0]);
  }
  sums.begin_segment();
  sums.sample_weight += weight_sum;
  if (args.t == 1)
    add_single_target(args, rows, row.data(), weighted.data(), sums);
  else
    add_several_targets(args, rows, row.data(), weighted.data(), sums);
}

// A segment of standardised rows: the same segment of rows that hold the standardised elements.
template <class T>
void scaled_segment(const LinearArgs<T>& args, int64_t begin, int64_t rows, LinearSums& sums) {
  std::vector<T> X, y, offset, weight;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t position = args.first + begin + i;
    const int64_t row = args.order ? (*args.order)(position) : position;
    for (int64_t j = 0; j < args.d; ++j)
      X.push_back(args.scaled_x(args.X.data[row * args.X.rs + j * args.X.cs], j));
    for (int64_t u = 0; u < args.t; ++u) {
      if (args.y.data) y.push_back(args.scaled_y(args.y.data[row * args.y.rs + u * args.y.cs], u));
      if (args.offset.data)
        offset.push_back(args.offset.data[row * args.offset.rs + u * args.offset.cs]);
    }
    if (args.sample_weight.data)
      weight.push_back(args.sample_weight.data[row * args.sample_weight.stride]);
  }
  LinearArgs<T> plain = args;
  plain.n = rows;
  plain.first = 0;
  plain.order = nullptr;
  plain.scaling = nullptr;
  plain.X = {X.data(), args.d, 1};
  if (args.y.data) plain.y = {y.data(), args.t, 1};
  if (args.offset.data) plain.offset = {offset.data(), args.t, 1};
  if (args.sample_weight.data) plain.sample_weight = {weight.data(), 1};
  linear_segment(plain, 0, rows, sums);
}

template <class T>
void linear(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, LinearSums& sums) {
  for (int64_t segment = segment0; segment < segment1; ++segment) {
    const int64_t begin = segment * L<T>;
    const int64_t rows = args.n - begin < L<T> ? args.n - begin : L<T>;
    if (args.scaling)
      scaled_segment(args, begin, rows, sums);
    else
      linear_segment(args, begin, rows, sums);
  }
}

template <class T>
void linear_each(int64_t count, const LossArgs<T>* args) {
  LinearSums sums;
  for (int64_t i = 0; i < count; ++i) {
    const LinearArgs<T>& rows = args[i].rows;
    sums.reset(rows.d, rows.t);
    linear(rows, 0, ceil_div(rows.n, L<T>), sums);
    sums.close();
    write_loss(args[i], sums);
  }
}

// x + a * b: rounded once for sums over float32, whose products are exact in double; for float64 a
// pair that keeps what rounding lost.
template <class T>
Pair accumulate(Pair x, double a, double b) {
  if constexpr (std::is_same_v<T, float>) return {std::fma(a, b, x.hi), 0.0};
  return add_product(x, a, b);
}

// Rows are taken times the roots of their weights, so that both factors of a product are the same
// numbers. Each sum is one chain over the rows of a segment, in double; the partials are added as
// pairs.
template <class T>
void moments_segment(const LinearArgs<T>& args, int64_t begin, int64_t rows, Moments& out) {
  const auto given = [&](int64_t row, int64_t j) -> double {
    if (j < args.d) return args.X.data[row * args.X.rs + j * args.X.cs];
    if (j == args.d) return 1.0;
    const int64_t u = j - args.d - 1;
    const double y = args.y.data[row * args.y.rs + u * args.y.cs];
    return args.offset.data ? y - args.offset.data[row * args.offset.rs + u * args.offset.cs] : y;
  };
  const auto column = [&](int64_t row, int64_t j) {
    if (!args.sample_weight.data) return given(row, j);
    const double weight = args.sample_weight.data[row * args.sample_weight.stride];
    return std::sqrt(weight) * given(row, j);
  };
  const auto sum = [&](int64_t a, int64_t b, int64_t to) {
    Pair total;
    for (int64_t row = begin; row < begin + rows; ++row)
      total = accumulate<T>(total, column(row, a), column(row, b));
    const auto i = static_cast<size_t>(to);
    const Pair both = add({out.hi[i], out.lo[i]}, total);
    out.hi[i] = both.hi;
    out.lo[i] = both.lo;
  };
  const int64_t p = args.d + 1, columns = out.columns();
  for (int64_t a = 0; a < p; ++a)
    for (int64_t b = a; b < columns; ++b) sum(a, b, a * columns + b);
  for (int64_t u = 0; u < args.t; ++u) sum(p + u, p + u, p * columns + u);
}

template <class T>
void moments(const LinearArgs<T>& args, int64_t segment0, int64_t segment1, Moments& out) {
  for (int64_t segment = segment0; segment < segment1; ++segment) {
    const int64_t begin = segment * L<T>;
    const int64_t rows = args.n - begin < L<T> ? args.n - begin : L<T>;
    out.begin_segments(1);
    moments_segment(args, args.first + begin, rows, out);
  }
}

template <class T>
void sgd(int64_t n, T* param, const T* grad, T* velocity, bool first, double lr,
         const SgdOptions& options) {
  const StepRates<T, bool> rates{static_cast<T>(-lr),
                                 static_cast<T>(options.momentum),
                                 static_cast<T>(1.0 - options.dampening),
                                 static_cast<T>(options.weight_decay),
                                 options.weight_decay != 0,
                                 first,
                                 options.nesterov};
  for (int64_t i = 0; i < n; ++i)
    param[i] = sgd_step<OneNumber<T>>(rates, param[i], options.maximize ? -grad[i] : grad[i],
                                      velocity ? velocity + i : nullptr);
}

template <class T>
void moments_each(int64_t count, const ProblemRows<T>* problems, Moments* out) {
  std::vector<T> gathered;
  for (int64_t i = 0; i < count; ++i) {
    const LinearArgs<T> args = rows_in_order(problems[i], gathered);
    out[i].reset(args.d, args.t);
    moments(args, 0, ceil_div(args.n, L<T>), out[i]);
    out[i].close();
  }
}

template <class T>
void descend_each(int64_t count, const DescentArgs<T>* descents) {
  PlainDescents<T> plain(reference_device<T>(), reference::quadratic<T>);
  for (int64_t i = 0; i < count; ++i) plain.run(descents[i]);
}

template <class T>
void curvature_each(int64_t count, const CurvatureArgs* hessians) {
  PlainCurvatures<T> plain(reference::quadratic<T>);
  for (int64_t i = 0; i < count; ++i) plain.run(hessians[i]);
}

}  // namespace

namespace reference {

// One chain over k for each element, and one for the magnitudes.
template <class T>
void accurate(const AccurateArgs<T>& args) {
  int64_t problems = 1;
  for (int64_t size : args.batch) problems *= size;
  double* hi = args.hi;
  for (int64_t problem = 0; problem < problems; ++problem) {
    const T* const a = args.a.data + offset_of(problem, args.batch, args.a_batch);
    const T* const b = args.b.data + offset_of(problem, args.batch, args.b_batch);
    for (int64_t i = 0; i < args.m; ++i)
      for (int64_t j = 0; j < args.n; ++j, ++hi) {
        Pair sum;
        double size = 0;
        for (int64_t p = 0; p < args.k; ++p) {
          const double x = a[i * args.a.rs + p * args.a.cs], y = b[p * args.b.rs + j * args.b.cs];
          sum = accumulate<T>(sum, x, y);
          size = std::fma(std::fabs(x), std::fabs(y), size);
        }
        *hi = sum.hi;
        hi[args.size] = size;
        if (std::is_same_v<T, double>) hi[args.lo] = sum.lo;
      }
  }
}

// Each entry of G w is one chain over the parameters.
template <class T>
double quadratic(const QuadraticArgs<T>& q, double* gradient) {
  constexpr bool pairs = std::is_same_v<T, double>;
  const auto at = [&](const double* x, int64_t i, int64_t low) -> Pair {
    return {x[i], pairs ? x[i + low] : 0.0};
  };
  const auto add_times = [&](Pair x, Pair a, double b) {
    Pair sum = accumulate<T>(x, a.hi, b);
    if (pairs) sum.lo = std::fma(a.lo, b, sum.lo);
    return sum;
  };
  const auto minus = [&](Pair x, Pair y) {
    return pairs ? add(x, {-y.hi, -y.lo}) : Pair{x.hi - y.hi, 0.0};
  };
  Pair squares = at(q.s, 0, 1);
  for (int64_t a = 0; a < q.p; ++a) {
    Pair sum;
    for (int64_t b = 0; b < q.p; ++b)
      sum = add_times(sum, at(q.G, b * q.ld + a, q.p * q.ld), q.w[b * q.w_stride]);
    const Pair c = at(q.c, a, q.p), g = minus(sum, c);
    gradient[a] = g.hi + g.lo;
    squares = add_times(squares, minus(g, c), q.w[a * q.w_stride]);
  }
  return squares.hi + squares.lo;
}

#define GDCORE_INSTANTIATE(T)                     \
  template void accurate(const AccurateArgs<T>&); \
  template double quadratic(const QuadraticArgs<T>&, double*);
GDCORE_INSTANTIATE(float)
GDCORE_INSTANTIATE(double)

}  // namespace reference

template <class T>
const Device<T>& reference_device() {
  constexpr bool of_host = true;
  constexpr int64_t block = 16;
  static constexpr Device<T> table{of_host,   block,           matmul<T>,         mse<T>,
                                   linear<T>, linear_each<T>,  moments<T>,        moments_each<T>,
                                   sgd<T>,    descend_each<T>, curvature_each<T>, copy_rows<T>};
  return table;
}
template const Device<float>& reference_device<float>();
template const Device<double>& reference_device<double>();

}  // namespace gdcore
